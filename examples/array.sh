#!/bin/bash
# Many runs of one program, each with its own parameter; at most four at a time.
#
#     hpc submit examples/array.sh
#     hpc logs JOB_3
#SBATCH --job-name=array
#SBATCH --array=1-8%4
#SBATCH --time=1:00
parameter=$((SLURM_ARRAY_TASK_ID * 10))
echo "task $SLURM_ARRAY_TASK_ID of array $SLURM_ARRAY_JOB_ID: parameter $parameter"
