/* pi.c with threads in place of processes: OpenMP, one node, no MPI. OMP_NUM_THREADS says how many.
 *
 *     omp_pi [STRIPS]
 */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    long strips = argc > 1 ? atol(argv[1]) : 10000000;
    double sum = 0, begun = omp_get_wtime();
    int threads = 1;

#pragma omp parallel for reduction(+ : sum)
    for (long i = 0; i < strips; i++) {
        double x = (i + 0.5) / strips;
        sum += 4 / (1 + x * x);
        if (i == 0) threads = omp_get_num_threads();
    }
    double pi = sum / strips, error = fabs(pi - acos(-1));
    int wrong = !(error < 1e-9);
    printf("pi = %.12f, off by %.1e, %s; %d threads, %.3f s\n", pi, error, wrong ? "WRONG" : "right", threads,
           omp_get_wtime() - begun);
    return wrong;
}
