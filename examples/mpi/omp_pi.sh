#!/bin/bash
# Pi with threads: one task that has two cores.
#
#     make && hpc submit omp_pi.sh
#SBATCH --job-name=omp-pi
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --time=5:00
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
build/omp_pi 100000000
