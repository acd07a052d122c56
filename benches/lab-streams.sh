#!/usr/bin/env bash
# Standard output of a gang over the network, on machines made of namespaces: `hpc run -N 4`, so many MiB from each rank,
# to /dev/null. Total throughput, the most memory of each process meanwhile, and how `hpc nodes` answers beside it.
#
#     benches/lab-streams.sh [MIB]         HPC names the binary; 1024 MiB from each rank without a number
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/demo-hosts.sh
. packaging/demo-hosts.sh
HPC=$(realpath "${HPC:-target/release/hpc}")
mib=${1:-1024}
unset HPC_CONTROLLER HPC_SOCKET HPC_CONFIG HPC_STATE_DIR
work=$(mktemp -d /tmp/hpc-lab.XXXXXX)
trap 'hosts_stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
now_ms() { echo $(($(date +%s%N) / 1000000)); }
hpc() { on_host 1 hpc "$@"; }

hosts_start 5 "$work" || exit 1
cd "$work"
hpc up --detach --cpus 2 --memory 4G >/dev/null
line=$(hpc invite --parsable --uses 4)
for k in 2 3 4 5; do on_host "$k" hpc join --detach --cpus 2 --memory 4G "$line" >/dev/null; done

most() { # the most memory that each kind of process has had, in KiB
    local pid words kind
    declare -A peak=()
    for pid in /proc/[0-9]*; do
        [ "$(readlink "$pid/exe" 2>/dev/null)" = /run/lab/bin/hpc ] || continue
        words=$(tr '\0' ' ' <"$pid/cmdline" 2>/dev/null) || continue
        set -- $words
        kind=$2
        words=$(awk '/^VmHWM:/ { print $2 }' "$pid/status" 2>/dev/null)
        [ "${words:-0}" -le "${peak[$kind]:-0}" ] || peak[$kind]=$words
    done
    for kind in "${!peak[@]}"; do printf '%s %d KiB; ' "$kind" "${peak[$kind]}"; done
    echo
}
for round in 1 2 3; do
    began=$(now_ms)
    hpc run -N 4 --ntasks-per-node 1 -x ws1 head -c "${mib}M" /dev/zero >/dev/null &
    run=$!
    slowest=0
    while kill -0 "$run" 2>/dev/null; do
        asked=$(now_ms)
        hpc nodes >/dev/null
        took=$(($(now_ms) - asked))
        [ "$took" -le "$slowest" ] || slowest=$took
        memory=$(most)
    done
    wait "$run"
    took=$(($(now_ms) - began))
    echo "4 x $mib MiB in $took ms: $((4 * mib * 1048576 / took / 1000)) MB/s; slowest hpc nodes $slowest ms"
    echo "    most memory: $memory"
done
