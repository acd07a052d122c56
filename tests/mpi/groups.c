/* Communicators made of groups, as MPI 4 has them: no communicator of all comes first, so that the library asks whoever
 * started it for a number that all members of a group have alike. Prints one line, of how many it was and how many
 * communicators it has made.
 *
 *   groups [ROUNDS]   all, halves side by side, pairs over nodes, and the halves as the sides of another, so many times
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int made;

static void check(int right, const char *what)
{
    if (!right) {
        printf("GROUPS WRONG %s\n", what);
        fflush(stdout);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

/* Every member adds what it is; nobody outside is heard. */
static void sum(MPI_Comm comm, int mine, int expected, int size, const char *what)
{
    int of, total = 0;
    MPI_Comm_size(comm, &of);
    check(of == size, what);
    MPI_Allreduce(&mine, &total, 1, MPI_INT, MPI_SUM, comm);
    check(total == expected, what);
    made++;
}

static MPI_Comm from_group(MPI_Group all, int first, int step, const char *tag)
{
    int size, ranges[1][3];
    MPI_Group group;
    MPI_Comm comm;
    MPI_Group_size(all, &size);
    ranges[0][0] = first;
    ranges[0][1] = size - 1;
    ranges[0][2] = step;
    MPI_Group_range_incl(all, 1, ranges, &group);
    MPI_Comm_create_from_group(group, tag, MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &comm);
    MPI_Group_free(&group);
    return comm;
}

static void halves(MPI_Group all, int rank, int size)
{
    int half = size / 2, upper = rank >= half, sides[2][1][3] = {{{0, half - 1, 1}}, {{half, size - 1, 1}}};
    int members = upper ? size - half : half, mine = rank, other = -1, first = upper ? 0 : half;
    MPI_Group group[2];
    MPI_Comm comm;
    for (int side = 0; side < 2; side++)
        MPI_Group_range_incl(all, 1, sides[side], &group[side]);
    MPI_Intercomm_create_from_groups(group[upper], 0, group[!upper], 0, "sides", MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL,
                                     &comm);
    MPI_Comm_remote_size(comm, &other);
    check(other == size - members, "the other side");
    /* The first of each side tells its rank to all of the other. */
    MPI_Bcast(&mine, 1, MPI_INT, rank == 0 ? MPI_ROOT : upper ? 0 : MPI_PROC_NULL, comm);
    check(!upper || mine == 0, "from below");
    mine = rank;
    MPI_Bcast(&mine, 1, MPI_INT, rank == half ? MPI_ROOT : upper ? MPI_PROC_NULL : 0, comm);
    check(upper || mine == first, "from above");
    made++;
    MPI_Comm_free(&comm);
    MPI_Group_free(&group[0]);
    MPI_Group_free(&group[1]);
}

int main(int argc, char **argv)
{
    int rank, size, nodes = 0, leads, rounds = argc > 1 ? atoi(argv[1]) : 1;
    MPI_Group all;
    MPI_Comm node, comm;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &leads);
    leads = leads == 0;
    MPI_Reduce(&leads, &nodes, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
    for (int round = 0; round < rounds; round++) {
        /* The same name each time. */
        comm = from_group(all, 0, 1, "all");
        sum(comm, rank, size * (size - 1) / 2, size, "all");
        MPI_Comm_free(&comm);
        /* Even and odd ones have a group of the same name at once. */
        int odd = rank % 2, members = (size + !odd) / 2, expected = 0;
        for (int other = odd; other < size; other += 2)
            expected += other;
        comm = from_group(all, odd, 2, "parity");
        sum(comm, rank, expected, members, "parity");
        MPI_Comm_free(&comm);
        /* The first and the last alone. */
        if (size > 1 && (rank == 0 || rank == size - 1)) {
            comm = from_group(all, 0, size - 1, "ends");
            sum(comm, rank, size - 1, 2, "ends");
            MPI_Comm_free(&comm);
        }
        if (size > 1)
            halves(all, rank, size);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        printf("GROUPS OK size=%d nodes=%d made=%d\n", size, nodes, made);
    fflush(stdout);
    MPI_Group_free(&all);
    MPI_Comm_free(&node);
    MPI_Finalize();
    return 0;
}
