/* What MPI_Comm_spawn and MPI_Comm_spawn_multiple have to do: ranks that ask for others, which find them.
 *
 *   spawn check N [HOST]   each rank of the world, all together, and then the first alone, asks for N further ones; worlds
 *                          are merged and add up
 *   spawn multiple         two commands of 1 and 2 ranks; each knows its number
 *   spawn nested D         a rank asks for one that asks for one, D times
 *   spawn missing          a program that is not there; the error is an answer
 *   spawn fails HOW        the child's rank 1 ends badly (exit, kill, late: after MPI_Finalize), the parents wait
 *   spawn lone             a child that goes on by itself, and ends after its parents
 *   spawn waits            children and parents wait for ever
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failed(const char *what) {
    fprintf(stderr, "SPAWN WRONG %s\n", what);
    MPI_Abort(MPI_COMM_WORLD, 3);
    return 3;
}

/* The merged world adds up what each side brings: 1 for a parent, 1000 for a child. */
static int add_up(MPI_Comm between, int is_child) {
    MPI_Comm all;
    int parents, children, sum, mine = is_child ? 1000 : 1;
    MPI_Comm_size(between, &parents);
    MPI_Comm_remote_size(between, &children);
    if (is_child) {
        int swap = parents;
        parents = children;
        children = swap;
    }
    MPI_Intercomm_merge(between, is_child, &all);
    MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, all);
    MPI_Comm_free(&all);
    if (sum != parents + 1000 * children)
        failed("sum");
    return sum;
}

static int child(MPI_Comm parent, char **words) {
    int rank, size, *number, flag;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_APPNUM, &number, &flag);
    if (!strcmp(words[0], "of-two")) {
        if (!flag || *number != (rank > 0) || atoi(words[1]) != *number)
            failed("number of the command");
    }
    if (!strcmp(words[0], "nested") && atoi(words[1]) > 0) {
        char deeper[16];
        char *arguments[] = {"child", "nested", deeper, NULL};
        MPI_Comm below;
        snprintf(deeper, sizeof deeper, "%d", atoi(words[1]) - 1);
        MPI_Comm_spawn(words[-2], arguments, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &below, MPI_ERRCODES_IGNORE);
        add_up(below, 0);
        MPI_Comm_disconnect(&below);
    }
    add_up(parent, 1);
    if (!strcmp(words[0], "waits"))
        for (;;)
            sleep(1);
    if (!strcmp(words[0], "fails") && strcmp(words[1], "late")) {
        if (rank == 1 && !strcmp(words[1], "kill"))
            raise(SIGKILL);
        if (rank == 1)
            _exit(7);
        MPI_Barrier(MPI_COMM_WORLD);
    }
    MPI_Comm_disconnect(&parent);
    if (!strcmp(words[0], "lone")) {
        sleep(2);
        printf("SPAWN LONE %d of %d\n", rank, size);
    }
    MPI_Finalize();
    return !strcmp(words[0], "fails") && rank == 1 ? 7 : 0;
}

int main(int argc, char **argv) {
    int rank, size, sum;
    MPI_Comm parent, between;
    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL)
        return argc > 2 ? child(parent, argv + 2) : failed("words of a child");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    const char *mode = argc > 1 ? argv[1] : "check";
    if (!strcmp(mode, "check")) {
        int count = atoi(argv[2]);
        char *words[] = {"child", "check", NULL};
        MPI_Info info = MPI_INFO_NULL;
        if (argc > 3) {
            MPI_Info_create(&info);
            MPI_Info_set(info, "host", argv[3]);
        }
        MPI_Comm_spawn(argv[0], words, count, info, 0, MPI_COMM_WORLD, &between, MPI_ERRCODES_IGNORE);
        sum = add_up(between, 0);
        MPI_Comm_disconnect(&between);
        if (rank == 0)
            printf("SPAWN OK sum=%d\n", sum);
        fflush(stdout);
        if (rank == 0) {
            MPI_Comm_spawn(argv[0], words, count, info, 0, MPI_COMM_SELF, &between, MPI_ERRCODES_IGNORE);
            sum = add_up(between, 0);
            MPI_Comm_disconnect(&between);
            printf("SPAWN OK alone sum=%d\n", sum);
        }
    } else if (!strcmp(mode, "multiple")) {
        char *first[] = {"child", "of-two", "0", NULL}, *second[] = {"child", "of-two", "1", NULL};
        char *programs[] = {argv[0], argv[0]};
        char **words[] = {first, second};
        int counts[] = {1, 2}, codes[3] = {9, 9, 9};
        MPI_Info infos[] = {MPI_INFO_NULL, MPI_INFO_NULL};
        MPI_Comm_spawn_multiple(2, programs, words, counts, infos, 0, MPI_COMM_WORLD, &between, codes);
        if (codes[0] || codes[1] || codes[2])
            failed("codes");
        sum = add_up(between, 0);
        MPI_Comm_disconnect(&between);
        if (rank == 0)
            printf("SPAWN OK sum=%d\n", sum);
    } else if (!strcmp(mode, "missing")) {
        int codes[2], code;
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
        code = MPI_Comm_spawn("/no/such/program", MPI_ARGV_NULL, 2, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &between, codes);
        if (code == MPI_SUCCESS)
            failed("an error was expected");
        if (rank == 0)
            printf("SPAWN REFUSED\n");
    } else {
        char *words[] = {"child", (char *)mode, argc > 2 ? argv[2] : "0", NULL};
        int count = !strcmp(mode, "nested") ? 1 : 2;
        MPI_Comm_spawn(argv[0], words, count, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &between, MPI_ERRCODES_IGNORE);
        sum = add_up(between, 0);
        if (rank == 0)
            printf("SPAWN OK sum=%d\n", sum);
        fflush(stdout);
        if (!strcmp(mode, "waits") || (!strcmp(mode, "fails") && strcmp(argv[2], "late")))
            for (;;)
                sleep(1);
        MPI_Comm_disconnect(&between);
        if (!strcmp(mode, "fails"))
            for (;;)
                sleep(1);
    }
    MPI_Finalize();
    return 0;
}
