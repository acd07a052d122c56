/* How warmth spreads on a square plate whose edge is kept cold, step by step. The plate's rows are shared out; before each
 * step a process gives its outermost rows to its neighbours and gets theirs (the halo).
 *
 *     heat [POINTS [STEPS]]      POINTS in each direction, without the edge
 *
 * The start is one hump, sin(pi x) sin(pi y). This scheme makes it smaller by the same factor at each step and leaves its
 * shape as it is, so every number at the end is known, and is checked.
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int rank, size, n = argc > 1 ? atoi(argv[1]) : 400, steps = argc > 2 ? atoi(argv[2]) : 500;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);

    /* Rows first+1 to first+rows of 1 to n are ours; the first processes take one more where it does not divide. */
    int rows = n / size + (rank < n % size);
    int first = rank * (n / size) + (rank < n % size ? rank : n % size);
    int up = rank > 0 ? rank - 1 : MPI_PROC_NULL, down = rank < size - 1 ? rank + 1 : MPI_PROC_NULL;
    if (n < size) {
        if (rank == 0) fprintf(stderr, "heat: fewer rows than processes\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }

    int width = n + 2; /* with the edge, as rows 0 and rows+1 are the halo */
    double *now = calloc((size_t)(rows + 2) * width, sizeof *now), *next = calloc((size_t)(rows + 2) * width, sizeof *next);
    double pi = acos(-1), h = 1.0 / (n + 1), r = 0.2; /* r: the time step over h * h; stable below 0.25 */
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= n; j++) now[i * width + j] = sin(pi * (first + i) * h) * sin(pi * j * h);

    double begun = MPI_Wtime();
    for (int step = 0; step < steps; step++) {
        MPI_Sendrecv(now + width, width, MPI_DOUBLE, up, 0, now + (rows + 1) * width, width, MPI_DOUBLE, down, 0,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Sendrecv(now + rows * width, width, MPI_DOUBLE, down, 1, now, width, MPI_DOUBLE, up, 1, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        for (int i = 1; i <= rows; i++)
            for (int j = 1; j <= n; j++) {
                int at = i * width + j;
                next[at] = now[at] + r * (now[at - width] + now[at + width] + now[at - 1] + now[at + 1] - 4 * now[at]);
            }
        double *old = now;
        now = next;
        next = old;
    }
    double took = MPI_Wtime() - begun;

    double shrinks = pow(1 - 8 * r * pow(sin(pi * h / 2), 2), steps), worst = 0, all;
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= n; j++) {
            double off = fabs(now[i * width + j] - shrinks * sin(pi * (first + i) * h) * sin(pi * j * h));
            if (off > worst) worst = off;
        }
    MPI_Reduce(&worst, &all, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);

    int wrong = 0;
    if (rank == 0) {
        wrong = !(all < 1e-12 * steps);
        printf("heat: %d x %d points, %d steps, %d processes: off by %.1e at most, %s; %.3f s, %.1f million points/s\n", n, n,
               steps, size, all, wrong ? "WRONG" : "right", took, 1e-6 * n * n * steps / took);
    }
    free(now);
    free(next);
    MPI_Finalize();
    return wrong;
}
