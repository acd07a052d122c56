#!/bin/bash
# How long it takes to simulate 10,000 jobs on 40 nodes with full placement, and how much memory: at most 10 s and 500 MiB.
# Run it on a release build: HPC=target/release/hpc benches/sim.sh
set -eu
here=$(dirname "$0")/sim
hpc=${HPC:-target/release/hpc}
peak_kib() { sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status" 2>/dev/null || true; }
begin=$(date +%s.%N)
"$hpc" sim --cluster "$here/cluster.toml" --workload "$here/jobs.toml" --json >/dev/null &
process=$!
peak=0
# The kernel keeps the peak while the process is there.
while now=$(peak_kib "$process") && [ -n "$now" ]; do
    peak=$now
    sleep 0.02
done
wait "$process"
awk -v from="$begin" -v to="$(date +%s.%N)" -v kib="$peak" \
    'BEGIN { printf "10,000 jobs on 40 nodes: %.1f s, %.0f MiB\n", to - from, kib / 1024 }'
