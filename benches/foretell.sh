#!/bin/bash
# How often jobs start when they were told they would: two years of a real machine under EASY, one in ten of the jobs that had
# to wait, with priority as it is by default and in the order of submission. At least 85 % should.
# Run it on a release build: HPC=target/release/hpc benches/foretell.sh
set -eu
cd "$(dirname "$0")/.."
hpc=${HPC:-target/release/hpc}
order=$(mktemp)
trap 'rm -f "$order"' EXIT
printf '[policy]\nage = 0\nfair-share = 0\nsize = 0\npartition = 0\nqos = 0\n' >"$order"
for rules in /dev/null "$order"; do
    [ "$rules" = /dev/null ] && echo "--- fair share first" || echo "--- in the order of submission"
    "$hpc" sim --cluster benches/sim/sp2.toml --workload tests/data/SDSC-SP2-1998-4.2-cln.swf.gz --rules "$rules" \
        --foretell 10 | sed -n '/^starts foretold/,/^$/p'
done
