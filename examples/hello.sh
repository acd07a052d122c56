#!/bin/bash
# The smallest job: says where it runs and what it was given.
#
#     hpc submit examples/hello.sh
#     hpc logs JOB
#SBATCH --job-name=hello
#SBATCH --time=1:00
echo "Hello from job $SLURM_JOB_ID on $(hostname), in $PWD"
echo "cpus: $(nproc), task ${SLURM_PROCID:-0} of ${SLURM_NTASKS:-1}"
