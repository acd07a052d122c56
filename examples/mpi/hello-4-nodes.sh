#!/bin/bash
# Eight processes on four nodes say where they are.
#
#     make && hpc submit hello-4-nodes.sh
#SBATCH --job-name=mpi-hello
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --time=5:00
hpc run build/hello
