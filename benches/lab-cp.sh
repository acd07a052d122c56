#!/usr/bin/env bash
# `hpc cp` over the network, on machines made of namespaces: one file of so many MiB to one machine, to four at once, and
# back; the time of a small one; beside it what the same bytes take through `tar` and a pipe on this machine.
#
#     benches/lab-cp.sh [MIB]         HPC names the binary; 512 MiB without a number
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/demo-hosts.sh
. packaging/demo-hosts.sh
HPC=$(realpath "${HPC:-target/release/hpc}")
mib=${1:-512}
unset HPC_CONTROLLER HPC_SOCKET HPC_CONFIG HPC_STATE_DIR
work=$(mktemp -d /tmp/hpc-lab.XXXXXX)
trap 'hosts_stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
now_ms() { echo $(($(date +%s%N) / 1000000)); }
hpc() { on_host 1 hpc "$@"; }
took() { # took WHAT BYTES-IN-MIB COMMAND...: says how long it took
    local began what=$1 size=$2
    shift 2
    began=$(now_ms)
    "$@"
    began=$(($(now_ms) - began))
    echo "$what: $began ms, $((size * 1048576 / (began > 0 ? began : 1) / 1000)) MB/s"
}

hosts_start 5 "$work" || exit 1
cd "$work"
hpc up --detach --cpus 2 --memory 4G >/dev/null
line=$(hpc invite --parsable --uses 4)
for k in 2 3 4 5; do on_host "$k" hpc join --detach --cpus 2 --memory 4G "$line" >/dev/null; done
on_host 1 sh -c "head -c ${mib}M /dev/urandom > /tmp/data; echo small > /tmp/small; mkdir /tmp/back"
beside() { on_host 1 sh -c "tar -cf - -C /tmp data | tar -xf - -C /tmp/back && rm /tmp/back/data"; }
for _ in 1 2 3; do
    took "beside, tar | tar" "$mib" beside
    took "to one machine" "$mib" hpc cp /tmp/data ws2:/tmp/one
    took "to four machines (each)" "$mib" hpc cp /tmp/data 'ws[2-5]:/tmp/four'
    took "back from one" "$mib" hpc cp ws2:/tmp/one /tmp/back/one
    took "a small file" 0 hpc cp /tmp/small ws3:/tmp/small
done
