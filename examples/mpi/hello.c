/* Each process says which of how many it is, and where. The first of them also says which MPI it is. */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    int rank, size, length;
    char host[MPI_MAX_PROCESSOR_NAME], library[MPI_MAX_LIBRARY_VERSION_STRING];

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);
    MPI_Get_library_version(library, &length);
    printf("Hello from %d of %d on %s\n", rank, size, host);
    if (rank == 0) printf("This is %.*s\n", (int)strcspn(library, ",\n"), library);
    MPI_Finalize();
    return 0;
}
