#!/bin/bash
# Counts the words of one file in each of 20 tasks; wordcount-reduce.sh adds the counts up.
#
#     array=$(hpc submit --parsable examples/wordcount.sh DATA COUNTS)
#     hpc submit --dependency "afterok:$array" examples/wordcount-reduce.sh COUNTS
#
# DATA holds part-01.txt to part-20.txt; without it each task writes itself a small file. COUNTS gets one file a task.
#SBATCH --job-name=wordcount
#SBATCH --array=1-20
#SBATCH --ntasks=1
#SBATCH --time=5:00
set -euo pipefail

data=${1:-words}
counts=${2:-counts}
part=$(printf 'part-%02d.txt' "$SLURM_ARRAY_TASK_ID")

mkdir -p "$counts"
if [ $# -eq 0 ]; then
    mkdir -p "$data"
    for ((i = 0; i < SLURM_ARRAY_TASK_ID; i++)); do echo "the quick brown fox"; done >"$data/$part"
fi

words=$(wc -w <"$data/$part")
# Under another name first: whoever sees the file sees all of it.
echo "$words" >"$counts/.$part.new"
mv "$counts/.$part.new" "$counts/$part"
echo "$part: $words words, counted on $(hostname)"
