#!/bin/bash
# The plate on eight processes of four nodes.
#
#     make && hpc submit heat.sh
#SBATCH --job-name=mpi-heat
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --time=5:00
hpc run build/heat 400 500
