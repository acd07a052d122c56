/* pi.c with both: one process on each node (or on each socket), and threads in each process. Only the main thread calls
 * MPI here, and says so: MPI_THREAD_FUNNELED.
 *
 *     hybrid [STRIPS]
 */
#include <math.h>
#include <mpi.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int rank, size, level, length, threads = 1, all_threads = 0;
    long strips = argc > 1 ? atol(argv[1]) : 10000000;
    double sum = 0, pi = 0;
    char host[MPI_MAX_PROCESSOR_NAME];

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);
    if (level < MPI_THREAD_FUNNELED) {
        fprintf(stderr, "hybrid: this MPI wants no threads beside it\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }

    double begun = MPI_Wtime();
#pragma omp parallel reduction(+ : sum)
    {
#pragma omp single
        threads = omp_get_num_threads();
#pragma omp for
        for (long i = rank; i < strips; i += size) {
            double x = (i + 0.5) / strips;
            sum += 4 / (1 + x * x);
        }
    }
    sum /= strips;
    printf("process %d of %d on %s has %d threads\n", rank, size, host, threads);
    MPI_Reduce(&sum, &pi, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Reduce(&threads, &all_threads, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);

    int wrong = 0;
    if (rank == 0) {
        double error = fabs(pi - acos(-1));
        wrong = !(error < 1e-9);
        printf("pi = %.12f, off by %.1e, %s; %d processes, %d threads, %.3f s\n", pi, error, wrong ? "WRONG" : "right", size,
               all_threads, MPI_Wtime() - begun);
    }
    MPI_Finalize();
    return wrong;
}
