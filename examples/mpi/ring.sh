#!/bin/bash
# How long a message takes: first inside one node, then between two.
#
#     make && hpc submit ring.sh
#SBATCH --job-name=mpi-ring
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=5:00
set -e
hpc run --nodes=1 --ntasks=2 build/ring
hpc run --nodes=2 --ntasks=2 build/ring
