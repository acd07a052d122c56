/* The MPI program of the tests. It checks what it was started as, does a little of everything, and says one line:
 *
 *     matrix check SIZE PER_NODE      MATRIX OK size=8 nodes=4 per_node=2 library=..., or MATRIX FAIL what
 *
 * A program that was started wrongly often runs happily alone, as SIZE times a world of one: so the sizes are what
 * has to be checked. The other words make it end badly, while all others wait for a message that never comes:
 *
 *     matrix abort RANK CODE          RANK calls MPI_Abort
 *     matrix exit RANK CODE           RANK calls exit, without MPI_Finalize
 *     matrix kill RANK                RANK ends by SIGKILL
 *     matrix segv RANK                RANK ends by SIGSEGV
 *     matrix hang RANK                RANK sleeps for ever
 *     matrix exit-after-finalize RANK CODE   all is well but what RANK returns
 *
 *     matrix no-init                  says its rank by the environment alone; MPI is never started
 *     matrix info                     one INFO line a rank: cpus, threads, host
 *     matrix spawn COUNT              starts COUNT more of itself: SPAWN OK or SPAWN REFUSED why
 *     matrix publish                  one rank finds another by a name: PUBLISH OK or PUBLISH REFUSED why
 *
 * A trailing `ready=FILE` makes each rank append its number to FILE before it waits.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank, size;

static void fail(const char *what, long got, long wanted) {
    printf("MATRIX FAIL rank=%d %s: %ld, not %ld\n", rank, what, got, wanted);
    fflush(stdout);
    MPI_Abort(MPI_COMM_WORLD, 3);
}

static void expect(const char *what, long got, long wanted) {
    if (got != wanted) fail(what, got, wanted);
}

/* Around the ring by one place; `count` numbers, so that small and large messages take their different ways. */
static void ring(const char *what, int count) {
    int *out = calloc((size_t)count, sizeof(int)), *in = calloc((size_t)count, sizeof(int));
    int right = (rank + 1) % size, left = (rank + size - 1) % size;
    for (int i = 0; i < count; i++) out[i] = rank * 7 + i, in[i] = -1;
    MPI_Sendrecv(out, count, MPI_INT, right, 1, in, count, MPI_INT, left, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < count; i++) expect(what, in[i], left * 7 + i);
    free(out);
    free(in);
}

static void check(int wanted_size, int wanted_per_node) {
    expect("size", size, wanted_size);
    MPI_Comm node;
    int per_node, node_rank;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &per_node);
    MPI_Comm_rank(node, &node_rank);
    MPI_Comm_free(&node);
    expect("per_node", per_node, wanted_per_node);

    int leader = node_rank == 0, nodes, sum;
    MPI_Allreduce(&leader, &nodes, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    expect("sum", sum, (long)size * (size - 1) / 2);

    ring("ring", 1);
    ring("large ring", 1 << 18);

    int *out = calloc((size_t)size, sizeof(int)), *in = calloc((size_t)size, sizeof(int));
    for (int to = 0; to < size; to++) out[to] = rank * size + to;
    MPI_Alltoall(out, 1, MPI_INT, in, 1, MPI_INT, MPI_COMM_WORLD);
    for (int from = 0; from < size; from++) expect("alltoall", in[from], (long)from * size + rank);
    free(out);
    free(in);

    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        char library[MPI_MAX_LIBRARY_VERSION_STRING];
        int length;
        MPI_Get_library_version(library, &length);
        library[strcspn(library, "\n,")] = 0;
        /* One word of it, however many blanks there were. */
        char *to = library;
        for (char *c = library; *c; c++)
            if (*c != ' ' && *c != '\t') *to++ = *c;
            else if (to == library || to[-1] != '_') *to++ = '_';
        *to = 0;
        printf("MATRIX OK size=%d nodes=%d per_node=%d library=%s\n", size, nodes, per_node, library);
        fflush(stdout);
    }
}

static void info(int threads) {
    cpu_set_t set;
    char cpus[1024] = "", host[256] = "";
    const char *omp = getenv("OMP_NUM_THREADS");
    size_t used = 0;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    for (int cpu = 0; cpu < CPU_SETSIZE && used < sizeof cpus - 8; cpu++)
        if (CPU_ISSET(cpu, &set))
            used += (size_t)snprintf(cpus + used, sizeof cpus - used, "%s%d", used ? "," : "", cpu);
    gethostname(host, sizeof host - 1);
    const char *level = threads == MPI_THREAD_MULTIPLE ? "multiple" : threads == MPI_THREAD_SERIALIZED ? "serialized"
        : threads == MPI_THREAD_FUNNELED ? "funneled" : "single";
    printf("INFO rank=%d size=%d host=%s cpus=%s omp=%s thread=%s\n", rank, size, host, cpus, omp ? omp : "unset", level);
    fflush(stdout);
}

/* Says how it went; 1 where it did not. */
static int refused(const char *what, int error) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;
    if (error == MPI_SUCCESS) return 0;
    MPI_Error_string(error, text, &length);
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = ' ';
    printf("%s REFUSED %s\n", what, text);
    fflush(stdout);
    return 1;
}

static void spawn(char *program, int count) {
    MPI_Comm children;
    char *words[] = {"child", NULL};
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    int error = MPI_Comm_spawn(program, words, count, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &children, MPI_ERRCODES_IGNORE);
    if (error != MPI_SUCCESS) {
        if (rank == 0) refused("SPAWN", error);
        return;
    }
    int mine = 1, theirs = 0;
    MPI_Allreduce(&mine, &theirs, 1, MPI_INT, MPI_SUM, children);
    expect("spawned", theirs, count);
    MPI_Comm_disconnect(&children);
    if (rank == 0) printf("SPAWN OK %d\n", theirs), fflush(stdout);
}

static void child(void) {
    MPI_Comm parents;
    int mine = 1, theirs = 0;
    MPI_Comm_get_parent(&parents);
    if (parents == MPI_COMM_NULL) fail("parents", 0, 1);
    MPI_Allreduce(&mine, &theirs, 1, MPI_INT, MPI_SUM, parents);
    MPI_Comm_disconnect(&parents);
}

static void publish(void) {
    char port[MPI_MAX_PORT_NAME] = "", found[MPI_MAX_PORT_NAME] = "", name[64];
    int error = 0, last = size - 1;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    snprintf(name, sizeof name, "matrix-test");
    if (rank == 0) {
        error = MPI_Open_port(MPI_INFO_NULL, port);
        if (error == MPI_SUCCESS) error = MPI_Publish_name(name, MPI_INFO_NULL, port);
    }
    MPI_Bcast(&error, 1, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Bcast(port, sizeof port, MPI_CHAR, 0, MPI_COMM_WORLD);
    if (error == MPI_SUCCESS) {
        if (rank == last) error = MPI_Lookup_name(name, MPI_INFO_NULL, found);
        MPI_Bcast(&error, 1, MPI_INT, last, MPI_COMM_WORLD);
        if (rank == last && error == MPI_SUCCESS) expect("port", strcmp(port, found), 0);
        if (rank == 0) MPI_Unpublish_name(name, MPI_INFO_NULL, port), MPI_Close_port(port);
    }
    if (rank == 0 && !refused("PUBLISH", error)) printf("PUBLISH OK\n"), fflush(stdout);
}

static void ready(const char *path) {
    char line[32];
    int length = snprintf(line, sizeof line, "%d\n", rank);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file < 0 || write(file, line, (size_t)length) != length) fail("ready", 0, 1);
    close(file);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    const char *flag = NULL;
    if (argc > 2 && strncmp(argv[argc - 1], "ready=", 6) == 0) flag = argv[--argc] + 6;
    int one = argc > 2 ? atoi(argv[2]) : 0, two = argc > 3 ? atoi(argv[3]) : 0;

    if (strcmp(mode, "no-init") == 0) {
        const char *pmi = getenv("PMI_RANK"), *pmix = getenv("PMIX_RANK"), *slurm = getenv("SLURM_PROCID");
        printf("NO-INIT pmi=%s pmix=%s slurm=%s\n", pmi ? pmi : "unset", pmix ? pmix : "unset", slurm ? slurm : "unset");
        return 0;
    }
    int threads = 0;
    MPI_Init_thread(&argc, &argv, strcmp(mode, "info") == 0 ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, &threads);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int mine = rank == one;

    if (strcmp(mode, "check") == 0) {
        check(one, two);
        MPI_Finalize();
        return 0;
    }
    if (strcmp(mode, "info") == 0) {
        info(threads);
        MPI_Finalize();
        return 0;
    }
    if (strcmp(mode, "spawn") == 0 || strcmp(mode, "child") == 0 || strcmp(mode, "publish") == 0) {
        if (mode[0] == 's') spawn(argv[0], one ? one : 1);
        else if (mode[0] == 'c') child();
        else publish();
        MPI_Finalize();
        return 0;
    }
    if (strcmp(mode, "exit-after-finalize") == 0) {
        MPI_Finalize();
        return mine ? two : 0;
    }

    /* Everybody is there before somebody fails. */
    MPI_Barrier(MPI_COMM_WORLD);
    if (flag) ready(flag);
    if (mine) {
        if (strcmp(mode, "abort") == 0) MPI_Abort(MPI_COMM_WORLD, two);
        if (strcmp(mode, "exit") == 0) exit(two);
        if (strcmp(mode, "kill") == 0) raise(SIGKILL);
        if (strcmp(mode, "segv") == 0) {
            signal(SIGSEGV, SIG_DFL);
            raise(SIGSEGV);
        }
        if (strcmp(mode, "hang") == 0)
            for (;;) pause();
        fprintf(stderr, "matrix: what is \"%s\"?\n", mode);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
