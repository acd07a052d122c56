#!/bin/bash
# Pi with both: one process on each of two nodes, two threads in each.
#
#     make && hpc submit hybrid.sh
#SBATCH --job-name=mpi-hybrid
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --time=5:00
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
hpc run build/hybrid 100000000
