/* A number goes once around: each process adds its rank and passes it on. How long one hop takes is a first look at the
 * network: some microseconds inside a node, tens of them over Ethernet.
 *
 *     ring [ROUNDS]
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int rank, size, rounds = argc > 1 ? atoi(argv[1]) : 1000;
    long token = 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int right = (rank + 1) % size, left = (rank + size - 1) % size;

    MPI_Barrier(MPI_COMM_WORLD);
    double begun = MPI_Wtime();
    for (int round = 0; round < rounds; round++) {
        if (rank == 0) {
            MPI_Request sending;
            MPI_Isend(&token, 1, MPI_LONG, right, 0, MPI_COMM_WORLD, &sending);
            long back;
            MPI_Recv(&back, 1, MPI_LONG, left, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Wait(&sending, MPI_STATUS_IGNORE);
            token = back;
        } else {
            MPI_Recv(&token, 1, MPI_LONG, left, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            token += rank;
            MPI_Send(&token, 1, MPI_LONG, right, 0, MPI_COMM_WORLD);
        }
    }
    double took = MPI_Wtime() - begun;

    int wrong = 0;
    if (rank == 0) {
        long expected = (long)rounds * size * (size - 1) / 2;
        wrong = token != expected;
        printf("ring of %d: %ld after %d rounds, %s; %.1f us a hop\n", size, token, rounds,
               wrong ? "WRONG" : "right", took / rounds / size * 1e6);
    }
    MPI_Finalize();
    return wrong;
}
