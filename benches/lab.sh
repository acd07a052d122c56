#!/usr/bin/env bash
# Figures of a lab of many machines, made of namespaces on this one (as packaging/demo-hosts.sh has them):
#
#     benches/lab.sh [MACHINES]            HPC names the binary; 40 machines besides the controller's without a number
#
# One pasted line to the first job; memory of an agent and its spare shepherd; idle cpu of the controller; the start of a
# gang over all machines; an array of no-op tasks over all of them beside the same over one, and beside what so many
# processes alone would make of it on the cores that all these machines share.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/demo-hosts.sh
. packaging/demo-hosts.sh
HPC=$(realpath "${HPC:-target/release/hpc}")
count=${1:-40}
tasks=${TASKS:-10000}
unset HPC_CONTROLLER HPC_SOCKET HPC_CONFIG HPC_STATE_DIR
work=$(mktemp -d /tmp/hpc-lab.XXXXXX)
trap 'hosts_stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

now_ms() { echo $(($(date +%s%N) / 1000000)); }
hpc() { on_host 1 hpc "$@"; }
say() { printf '%-58s %s\n' "$1" "$2"; }
# What the second of two times, of the same work, makes of the speed of the first.
as_fast() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f times as fast", a / b }'; }

hosts_start $((count + 1)) "$work" || exit 1
root=$PWD
cd "$work"
hpc up --detach --cpus 2 --memory 4G >/dev/null
line=$(hpc invite --parsable --uses $((count + 1)))

began=$(now_ms)
on_host 2 hpc join --detach --cpus 2 --memory 4G "$line" >/dev/null
[ "$(hpc run -w ws2 hostname)" = ws2 ]
say "from the pasted line to the end of the first job there" "$(($(now_ms) - began)) ms"

began=$(now_ms)
for ((k = 3; k <= count + 1; k++)); do
    on_host "$k" hpc join --detach --cpus 2 --memory 4G "$line" >/dev/null &
done
wait $(jobs -p | grep -vx -e "${hosts_guard:-0}" $(printf -- ' -e %s' "${hosts_own[@]}")) || true
until [ "$(hpc nodes --json | grep -c '"responding":true')" -eq $((count + 1)) ]; do :; done
say "$((count - 1)) more machines joined, side by side" "$(($(now_ms) - began)) ms"

# The program has this name within the machines.
is_ours() { [ "$(readlink "$1/exe" 2>/dev/null)" = /run/lab/bin/hpc ]; }

# Memory: what an agent alone adds to a machine, and its spare shepherd.
rss() { # rss WORD: resident KiB and how many of our processes with this word in second place
    local sum=0 number=0 pid words
    for pid in /proc/[0-9]*; do
        is_ours "$pid" || continue
        words=$(tr '\0' ' ' <"$pid/cmdline" 2>/dev/null) || continue
        case $words in
        *" $1 "*)
            sum=$((sum + $(awk '/^VmRSS:/ { print $2 }' "$pid/status")))
            number=$((number + 1))
            ;;
        esac
    done
    echo "$sum $number"
}
read -r sum number <<<"$(rss worker)"
say "memory of an agent ($number of them)" "$((sum / number)) KiB"
read -r sum number <<<"$(rss shepherd)"
say "memory of a spare shepherd ($number of them)" "$((sum / number)) KiB"
read -r sum number <<<"$(rss controller)"
say "memory of the controller" "$sum KiB"

controller=''
for pid in /proc/[0-9]*; do
    if is_ours "$pid" && tr '\0' ' ' <"$pid/cmdline" | grep -q ' controller '; then
        controller=$pid
    fi
done
ticks() { awk '{ print $14 + $15 }' "$controller/stat"; }
before=$(ticks)
sleep 20
say "idle cpu of the controller" "$(awk -v t=$(($(ticks) - before)) -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f %% of a core", 100 * t / hz / 20 }')"

for round in 1 2 3; do
    began=$(date +%s.%N)
    hpc run -N "$count" --ntasks-per-node 1 -x ws1 date +%s.%N >starts
    [ "$(wc -l <starts)" -eq "$count" ]
    say "gang over $count machines, submitted to the last task's start" \
        "$(sort -n starts | awk -v began="$began" '{ last = $1 } NR == 1 { first = $1 } END { printf "%.0f ms (first after %.0f)", (last - began) * 1000, (first - began) * 1000 }')"
done

array() { # array OPTIONS...: milliseconds of a whole no-op array
    local job began
    began=$(now_ms)
    job=$(hpc submit --parsable --array "1-$tasks" -o /dev/null "$@" -- /bin/true)
    hpc wait "$job" >/dev/null
    echo $(($(now_ms) - began))
}
one=$(array -w ws2)
all=$(array -x ws1)
say "array of $tasks no-op tasks over one machine" "$one ms"
say "array of $tasks no-op tasks over $count machines" "$all ms ($(as_fast "$one" "$all"))"

# Two tasks at a time on each machine.
if cc -O1 -o loops "$root/benches/lab_loops.c"; then
    loops() { # loops NUMBER: milliseconds of as many tasks by so many processes that do nothing else
        local began
        began=$(now_ms)
        ./loops "$1" "$tasks"
        echo $(($(now_ms) - began))
    }
    few=$(loops 2)
    many=$(loops $((2 * count)))
    say "the same tasks by 2 bare loops, and by $((2 * count))" "$few ms, $many ms ($(as_fast "$few" "$many"))"
fi
