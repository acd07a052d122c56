#!/bin/bash
# Pi with 1, 2 and 4 processes: twice as many should take half as long, if each has a core of its own.
#
#     make && hpc submit pi.sh
#SBATCH --job-name=mpi-pi
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=5:00
set -e
for processes in 1 2 4; do hpc run --ntasks=$processes build/pi 100000000; done
