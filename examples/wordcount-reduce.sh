#!/bin/bash
# Adds up what the 20 tasks of wordcount.sh counted. See there for how the two are submitted.
#SBATCH --job-name=wordcount-reduce
#SBATCH --time=5:00
set -euo pipefail

counts=${1:-counts}
files=("$counts"/part-*.txt)
if [ ${#files[@]} -ne 20 ]; then
    echo "expected 20 counts in $counts, found ${#files[@]}" >&2
    exit 1
fi
total=$(awk '{ sum += $1 } END { print sum + 0 }' "${files[@]}")
echo "$total" >"$counts/total"
echo "total: $total words in ${#files[@]} files"
