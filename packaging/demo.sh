#!/usr/bin/env bash
# A cluster of four machines (of namespaces, where those can be had, else of this one alone), a real computation on real
# input, its result checked, and everything removed.
#
# Needs no root and no configuration, and touches nothing of a cluster that already runs here: all state is in a
# temporary directory. HPC names the binary (`make demo` sets it). KEEP=1 keeps the directory to look at.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
examples=$PWD/examples
# shellcheck source=packaging/demo-hosts.sh
. packaging/demo-hosts.sh

HPC=${HPC:-target/fast/hpc}
if [ ! -x "$HPC" ]; then
    echo "demo: no hpc binary at $HPC; build it with 'make build', or name one in HPC" >&2
    exit 2
fi
HPC=$(realpath "$HPC")

# A job's environment or a user's own cluster must not be taken for ours.
unset HPC_CONTROLLER HPC_SOCKET HPC_CONFIG
# Short: a socket's path must fit into 107 bytes.
work=$(mktemp -d /tmp/hpc-demo.XXXXXX)
export HPC_STATE_DIR=$work/state
tasks=20

bold='' plain=''
if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
show() { # says a command as one would type it, then runs it
    printf '\n%s$ hpc %s%s\n' "$bold" "$*" "$plain"
    hpc "$@"
}
hpc() { "$HPC" "$@"; }

clean_up() {
    local code=$?
    trap - EXIT INT TERM
    if [ "$code" -ne 0 ]; then
        echo
        echo "demo: FAIL (exit code $code)" >&2
        hpc history </dev/null >&2 2>&1 || true
    fi
    hosts_stop
    if [ -d "${HPC_STATE_DIR:-}" ]; then
        timeout 60 "$HPC" down </dev/null >/dev/null 2>&1 || true
        # Whatever `down` could not reach: the two processes name themselves.
        local file pid
        for file in "$HPC_STATE_DIR"/controller/controller.pid "$HPC_STATE_DIR"/worker/agent.pid; do
            pid=$(cat "$file" 2>/dev/null) || continue
            if [ "$(readlink "/proc/$pid/exe" 2>/dev/null)" = "$HPC" ]; then kill "$pid" || true; fi
        done
    fi
    if [ -n "${KEEP:-}" ]; then
        echo "demo: kept $work"
    else
        rm -rf "$work"
    fi
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- real input ---------------------------------------------------------------------------------------------

mkdir "$work/data" "$work/counts"
cd "$work"
# Words by a small fixed generator, so that each run counts the same; file K has about 5,000 times K of them.
for ((k = 1; k <= tasks; k++)); do
    awk -v seed="$k" -v count=$((k * 5000 + k * k)) 'BEGIN {
        n = split("node core queue job array of the and a rank memory step cluster shepherd fast lab gpu task wait end", word, " ")
        x = seed
        for (i = 1; i <= count; i++) {
            x = (x * 16807) % 2147483647
            printf "%s%s", word[x % n + 1], (x % 11 == 0 ? "\n" : " ")
        }
    }' >"$(printf 'data/part-%02d.txt' "$k")"
done
expected=$(cat data/*.txt | wc -w)
echo "demo: $tasks files with $expected words in $work/data"

# ---- a cluster ----------------------------------------------------------------------------------------------

# Four machines where namespaces can be had: each with its own hostname, address, processes and files. All they have in
# common is the directory of the data.
nodes=4
if hosts_start "$nodes" "$work" "$examples"; then
    unset HPC_STATE_DIR
    hpc() { on_host 1 hpc "$@"; }
else
    echo "demo: going on with this machine alone"
    nodes=1
fi

began=$(date +%s%N)
show up --detach
echo "demo: the cluster was ready in $((($(date +%s%N) - began) / 1000000)) ms"
for ((k = 2; k <= nodes; k++)); do
    line=$(hpc invite --parsable)
    printf '\n%sws%s$ hpc join --detach %s%s\n' "$bold" "$k" "$line" "$plain"
    began=$(date +%s%N)
    on_host "$k" hpc join --detach "$line"
    [ "$(hpc run -w "ws$k" hostname)" = "ws$k" ]
    echo "demo: ws$k had joined and run its first job after $((($(date +%s%N) - began) / 1000000)) ms"
done
show nodes

# ---- a computation ------------------------------------------------------------------------------------------

array=$(hpc submit --parsable "$examples/wordcount.sh" data counts)
echo
echo "demo: array job $array counts the words of each file"
reduce=$(hpc submit --parsable --dependency "afterok:$array" "$examples/wordcount-reduce.sh" counts)
echo "demo: job $reduce adds them up once all of $array has succeeded"
show queue

hpc wait "$reduce"

show logs "${array}_7"
show logs "$reduce"

below=200000
show run -N "$nodes" --ntasks-per-node 1 "$examples/primes.sh" "$below" | tee primes

if command -v python3 >/dev/null; then
    picture=$(hpc submit --parsable "$examples/mandelbrot.py")
    hpc wait "$picture"
    show logs "$picture"
fi
show history

# ---- is it right? -------------------------------------------------------------------------------------------

counted=$(cat counts/total)
[ "$(find counts -name 'part-*.txt' | wc -l)" -eq "$tasks" ] || {
    echo "demo: not every task left its count" >&2
    exit 1
}
if [ "$counted" != "$expected" ]; then
    echo "demo: the cluster counted $counted words, wc -w says $expected" >&2
    exit 1
fi

# There are 17,984 primes below 200,000.
primes=$(awk '/ primes$/ { sum += $(NF - 1); seen[$6] = 1 } END { print sum, length(seen) }' primes)
if [ "$primes" != "17984 $nodes" ]; then
    echo "demo: the gang found '$primes' primes and hosts, there are 17984 on $nodes" >&2
    exit 1
fi
if [ "$nodes" -gt 1 ]; then
    busy=$(hpc history --array --json | grep -o '"nodes":\["ws[0-9]*"\]' | sort -u | wc -l)
    if [ "$busy" -ne "$nodes" ]; then
        echo "demo: tasks ran on $busy machines, there are $nodes" >&2
        exit 1
    fi
    for ((k = nodes; k > 1; k--)); do on_host "$k" hpc down </dev/null; done
fi
show down </dev/null
if hpc status >/dev/null 2>&1; then
    echo "demo: the controller still runs after hpc down" >&2
    exit 1
fi
echo
echo "demo: PASS: $tasks tasks on $nodes machines counted $counted words, as wc -w does, and a gang found 17984 primes"
