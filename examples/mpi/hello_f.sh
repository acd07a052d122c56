#!/bin/bash
# The same in Fortran.
#
#     make && hpc submit hello_f.sh
#SBATCH --job-name=mpi-fortran
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=5:00
hpc run build/hello_f
