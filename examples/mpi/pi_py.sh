#!/bin/bash
# Pi in Python. PYTHON may name the interpreter of a virtual environment with mpi4py.
#
#     make && hpc submit pi_py.sh
#SBATCH --job-name=mpi-python
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=5:00
hpc run "${PYTHON:-python3}" pi.py
