#!/usr/bin/env bash
# A cluster of one on this machine, a real computation on real input, its result checked, and everything removed.
#
# Needs no root and no configuration, and touches nothing of a cluster that already runs here: all state is in a
# temporary directory. HPC names the binary (`make demo` sets it). KEEP=1 keeps the directory to look at.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
examples=$PWD/examples

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
    "$HPC" "$@"
}

clean_up() {
    local code=$?
    trap - EXIT INT TERM
    if [ "$code" -ne 0 ]; then
        echo
        echo "demo: FAIL (exit code $code)" >&2
        timeout 10 "$HPC" history </dev/null >&2 2>&1 || true
    fi
    if [ -d "$HPC_STATE_DIR" ]; then
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

began=$(date +%s%N)
show up --detach --state-dir "$HPC_STATE_DIR"
echo "demo: the cluster was ready in $((($(date +%s%N) - began) / 1000000)) ms"
show nodes

# ---- a computation ------------------------------------------------------------------------------------------

array=$("$HPC" submit --parsable "$examples/wordcount.sh" data counts)
echo
echo "demo: array job $array counts the words of each file"
reduce=$("$HPC" submit --parsable --dependency "afterok:$array" "$examples/wordcount-reduce.sh" counts)
echo "demo: job $reduce adds them up once all of $array has succeeded"
show queue

timeout 300 "$HPC" wait "$reduce"

show logs "${array}_7"
show logs "$reduce"

if command -v python3 >/dev/null; then
    picture=$("$HPC" submit --parsable "$examples/mandelbrot.py")
    timeout 300 "$HPC" wait "$picture"
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

show down </dev/null
if [ -e "$HPC_STATE_DIR/controller/controller.pid" ] &&
    kill -0 "$(cat "$HPC_STATE_DIR/controller/controller.pid")" 2>/dev/null; then
    echo "demo: the controller still runs after hpc down" >&2
    exit 1
fi
echo
echo "demo: PASS: $tasks tasks counted $counted words, as wc -w does"
