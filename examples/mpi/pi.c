/* Pi as the area below 4 / (1 + x * x): each process adds up every so manyth strip, and MPI_Reduce adds those up.
 *
 *     pi [STRIPS]
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int rank, size;
    long strips = argc > 1 ? atol(argv[1]) : 10000000;
    double sum = 0, pi = 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Bcast(&strips, 1, MPI_LONG, 0, MPI_COMM_WORLD);

    double begun = MPI_Wtime();
    for (long i = rank; i < strips; i += size) {
        double x = (i + 0.5) / strips;
        sum += 4 / (1 + x * x);
    }
    sum /= strips;
    MPI_Reduce(&sum, &pi, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);

    int wrong = 0;
    if (rank == 0) {
        double error = fabs(pi - acos(-1));
        wrong = !(error < 1e-9);
        printf("pi = %.12f, off by %.1e, %s; %d processes, %.3f s\n", pi, error, wrong ? "WRONG" : "right", size,
               MPI_Wtime() - begun);
    }
    MPI_Finalize();
    return wrong;
}
