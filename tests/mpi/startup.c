/* Starts and ends MPI and does nothing between: how long that takes is what is measured with it. */
#include <mpi.h>

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Finalize();
    return 0;
}
