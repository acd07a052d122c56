#!/bin/bash
# Counts the primes below a number, each task of a gang an equal share of them, and says how many it found:
#
#     hpc run -N 4 --ntasks-per-node 1 examples/primes.sh 200000
#
# Nothing is read or written but the stream that comes back to you, so the machines need no file system in common.
#SBATCH --job-name=primes
set -euo pipefail

below=${1:-100000}
awk -v below="$below" -v rank="${SLURM_PROCID:-0}" -v tasks="${SLURM_NTASKS:-1}" -v host="$(hostname)" 'BEGIN {
    count = (rank == 0 && below > 2)
    # Of the odd numbers every task takes every so manyth.
    for (n = 3 + 2 * rank; n < below; n += 2 * tasks) {
        prime = 1
        for (d = 3; d * d <= n; d += 2) if (n % d == 0) { prime = 0; break }
        count += prime
    }
    printf "task %d of %d on %s: %d primes\n", rank, tasks, host, count
}'
