#!/bin/bash
# Four processes on two nodes say where they are.
#
#     make && hpc submit hello.sh
#SBATCH --job-name=mpi-hello
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=5:00
hpc run build/hello
