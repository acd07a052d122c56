#!/usr/bin/env bash
# Runs in the virtual machine that packaging/vm-test.sh boots, as root, on a system where `make install-files` has put
# binary, units and config and nothing has been started. Its last line is TEST_RC=N; the machine is off after that.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /

began=$SECONDS
say() { printf '[%3d s] %s\n' $((SECONDS - began)) "$*"; }
fail() {
    say "FAILED: $*"
    exit 1
}
over() {
    local rc=$?
    trap - EXIT
    if [ "$rc" -ne 0 ]; then
        systemctl --no-pager --full status hpc-controller hpc-worker || true
        journalctl --no-pager -n 60 -u 'hpc-*' -u vm-n2 || true
        [ -z "${leader:-}" ] || in_n2 journalctl --no-pager -n 30 || true
        # All but the kernel's own.
        ps --ppid 2 -p 2 --deselect -o pid,ppid,user,cgroup:60,args --sort=pid || true
    fi
    echo "TEST_RC=$rc"
    sync
    systemctl --force --force poweroff
}
trap over EXIT

within() { # within SECONDS WHAT COMMAND...: until it succeeds
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/tmp/within 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            cat /tmp/within
            fail "in time: $what"
        fi
        sleep 0.2
    done
}
as_alice() { # as_alice COMMAND...: as a person at a terminal would be
    setpriv --reuid=alice --regid=alice --init-groups \
        env -i HOME=/home/alice USER=alice LOGNAME=alice PATH="$PATH" sh -c 'cd && exec "$@"' sh "$@"
}
prop() { systemctl show "$2" -p "$1" --value; }
is() { [ "$1" = "$2" ] || fail "$3: $1, expected $2"; }
answers() { hpc nodes --json | grep -q "\"name\":\"$1\".*\"responding\":true" ||
    hpc node "$1" --json | grep -Eq '"responding": ?true'; }
state() { hpc job "$1" --json | grep -Eo '"state": ?"[A-Z_]*"' | head -1 | grep -Eo '[A-Z_]{4,}'; }
in_state() { [ "$(state "$1")" = "$2" ]; }

useradd --create-home --shell /bin/bash alice
node=$(hostname)
say "booted: $(uname -r), systemd $(systemctl --version | head -1), $(cat /proc/sys/kernel/hostname)"

# ---- the units as files

verdict=$(systemd-analyze verify /usr/lib/systemd/system/hpc-controller.service /usr/lib/systemd/system/hpc-worker.service 2>&1) ||
    fail "systemd-analyze verify: $verdict"
is "$verdict" "" "systemd-analyze verify says"
say "ok: systemd-analyze verify finds nothing"

# ---- a machine of no cluster

systemctl start hpc-worker
is "$(prop ActiveState hpc-worker)" inactive "a worker without a cluster"
is "$(prop ConditionResult hpc-worker)" no "the condition of a worker without a cluster"
say "ok: hpc-worker is not started on a machine that belongs to no cluster"

# ---- the head node

systemctl enable --now hpc-controller hpc-worker 2>/dev/null
is "$(prop ActiveState hpc-controller)" active "hpc-controller"
is "$(prop ActiveState hpc-worker)" active "hpc-worker"
# Ready means ready: no waiting here.
hpc status >/dev/null || fail "the controller does not answer when its start is over"
within 60 "the node answers" answers "$node"
say "ok: hpc-controller and hpc-worker are active; $(systemd-analyze security hpc-controller.service --no-pager | tail -1 | cut -d' ' -f2-)"

if hpc submit --wrap true 2>/tmp/refused; then fail "a job of root was taken"; fi
grep -q allow_root_jobs /tmp/refused || fail "the refusal of a job of root: $(cat /tmp/refused)"
say "ok: a job of root is refused: $(head -1 /tmp/refused)"

cat >/home/alice/look.sh <<'JOB'
#!/bin/bash
echo "uid $(id -u) groups $(id -G) home $HOME"
echo "mount $(readlink /proc/self/ns/mnt)"
echo "locked $(ulimit -H -l) stack $(ulimit -H -s) files $(ulimit -H -n)"
echo "ignored $(awk '/^SigIgn/ { print $2 }' /proc/self/status)"
echo "oom $(cat /proc/self/oom_score_adj) nice $(nice)"
echo "group $(cut -d: -f3 /proc/self/cgroup)"
echo "systemd ${NOTIFY_SOCKET:-}${INVOCATION_ID:-}${JOURNAL_STREAM:-}"
touch ~/mine /tmp/of-alice
JOB
as_alice hpc submit --wait -o look.out look.sh >/dev/null || fail "the job of alice ended badly"
look() { sed -n "s/^$1 *//p" /home/alice/look.out; }
cat /home/alice/look.out
is "$(look uid)" "$(id -u alice) groups $(id -G alice) home /home/alice" "the job's user"
is "$(look mount)" "$(readlink /proc/1/ns/mnt)" "the job's mount namespace"
is "$(look locked)" "unlimited stack unlimited files 524288" "the job's hard limits"
is "$(look ignored)" 0000000000000000 "the job's ignored signals"
is "$(look oom)" "0 nice 0" "what the job inherits"
is "$(look systemd)" "" "systemd's variables in the job"
case $(look group) in
/system.slice/hpc-worker.service*) ;;
*) fail "the job's group: $(look group)" ;;
esac
is "$(stat -c %U /home/alice/mine /tmp/of-alice | sort -u)" alice "the owner of the job's files"
say "ok: a job of alice runs as alice, in the machine's own mount namespace, in hpc-worker's group"

# ---- jobs are left alone

cat >/home/alice/long.sh <<'JOB'
#!/bin/bash
echo $$ >pid.new && mv pid.new pid
until [ -e go ]; do sleep 0.2; done
exit 7
JOB
alive() { # the very process that was started
    [ "$(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" = "$started" ] || fail "$1: the job's process $pid has gone"
}
begin() {
    rm -f /home/alice/go /home/alice/pid
    job=$(as_alice hpc submit --parsable -o /dev/null long.sh)
    within 60 "job $job starts" test -s /home/alice/pid
    pid=$(cat /home/alice/pid)
    started=$(cut -d' ' -f22 "/proc/$pid/stat")
    within 60 "job $job is RUNNING" in_state "$job" RUNNING
}
end() { # end WHAT: the job is let go; its code is kept and reported
    touch /home/alice/go
    local code=0
    as_alice timeout 60 hpc wait "$job" || code=$?
    is "$code" 7 "$1: the exit code of job $job"
    is "$(state "$job")" FAILED "$1: the state of job $job"
}
back() {
    within 60 "$1: the units are active" systemctl is-active hpc-controller hpc-worker
    within 60 "$1: the node answers" answers "$node"
}

begin
main=$(prop MainPID hpc-controller)
systemctl restart hpc-controller
[ "$(prop MainPID hpc-controller)" != "$main" ] || fail "the controller was not restarted"
alive "restart of hpc-controller"
back "restart of hpc-controller"
is "$(state "$job")" RUNNING "restart of hpc-controller: job $job"
end "restart of hpc-controller"
say "ok: systemctl restart hpc-controller: process $pid untouched, exit code 7 reported"

begin
main=$(prop MainPID hpc-worker)
systemctl restart hpc-worker
[ "$(prop MainPID hpc-worker)" != "$main" ] || fail "the worker was not restarted"
alive "restart of hpc-worker"
back "restart of hpc-worker"
is "$(state "$job")" RUNNING "restart of hpc-worker: job $job"
end "restart of hpc-worker"
say "ok: systemctl restart hpc-worker: process $pid untouched, exit code 7 reported"

begin
systemctl stop hpc-worker
is "$(prop ActiveState hpc-worker)" inactive "hpc-worker after its stop"
alive "stop of hpc-worker"
hpc queue >/dev/null || fail "a stop of hpc-worker took the controller's socket"
systemctl start hpc-worker
alive "start of hpc-worker"
back "start of hpc-worker"
is "$(state "$job")" RUNNING "stop and start of hpc-worker: job $job"
end "stop and start of hpc-worker"
say "ok: systemctl stop hpc-worker leaves process $pid running, start finds it, exit code 7 reported"

begin
systemctl stop hpc-worker hpc-controller
alive "stop of both"
touch /home/alice/go
gone() { ! [ -e "/proc/$pid" ]; }
within 60 "the job ends" gone
systemctl start hpc-controller hpc-worker
back "an end while both were stopped"
end "an end while both were stopped"
say "ok: a job that ends while both are stopped has its exit code 7 reported after their start"

begin
kills() { [ "$(prop NRestarts "$1")" -gt "$2" ]; }
controller_starts=$(prop NRestarts hpc-controller) worker_starts=$(prop NRestarts hpc-worker)
kill -9 "$(prop MainPID hpc-controller)" "$(prop MainPID hpc-worker)"
alive "kill -9 of both"
within 60 "hpc-controller is started again" kills hpc-controller "$controller_starts"
within 60 "hpc-worker is started again" kills hpc-worker "$worker_starts"
back "kill -9 of both"
alive "kill -9 of both"
is "$(state "$job")" RUNNING "kill -9 of both: job $job"
end "kill -9 of both"
say "ok: kill -9 of both: started again, process $pid untouched, exit code 7 reported"

# One job that runs out of memory must not be the end of the agent.
begin
main=$(prop MainPID hpc-worker)
events=/sys/fs/cgroup/system.slice/hpc-worker.service/memory.events
systemctl set-property --runtime hpc-worker MemoryMax=200M MemorySwapMax=0
eater=$(as_alice hpc submit --parsable -o /dev/null --wrap 'exec tail /dev/zero')
as_alice timeout 120 hpc wait "$eater" && fail "a job that eats all memory ended well"
grep -q '^oom_kill [1-9]' $events || fail "nothing was killed: $(cat $events)"
systemctl set-property --runtime hpc-worker MemoryMax=infinity
is "$(prop ActiveState hpc-worker) $(prop MainPID hpc-worker)" "active $main" "hpc-worker after an OOM kill"
alive "an OOM kill beside it"
end "an OOM kill beside it"
say "ok: an OOM kill in one job ends neither the unit nor the other job"

# ---- another machine: a container with a systemd, a disk and a network of its own

mkdir -p /mnt/n2
mount /dev/vdb /mnt/n2
echo n2 >/mnt/n2/etc/hostname
rm -f /mnt/n2/etc/machine-id
touch /mnt/n2/etc/machine-id
cp -a /usr/bin/hpc /mnt/n2/usr/bin/
cp -a /usr/lib/systemd/system/hpc-*.service /mnt/n2/usr/lib/systemd/system/
cp -a /etc/hpc /mnt/n2/etc/
boot_n2() {
    systemd-run --quiet --unit=vm-n2 systemd-nspawn --quiet --boot --directory=/mnt/n2 --machine=n2 --network-veth
    within 60 "n2 is registered" machinectl show n2
    leader=$(machinectl show n2 -p Leader --value)
    # Addresses come from outside, as a network's would.
    within 60 "n2 has a network" ip link show ve-n2
    ip addr replace 10.77.0.1/24 dev ve-n2
    ip link set ve-n2 up
    nsenter -t "$leader" -n ip addr replace 10.77.0.2/24 dev host0
    nsenter -t "$leader" -n ip link set host0 up
    nsenter -t "$leader" -n ip link set lo up
    within 120 "n2 has booted" in_n2 systemctl is-active multi-user.target
}
in_n2() { nsenter -t "$leader" -m -u -i -n -p -C -r -w "$@"; }
boot_n2
in_n2 useradd --create-home --uid 2000 --shell /bin/bash alice
is "$(in_n2 systemctl is-active hpc-worker)" inactive "hpc-worker before n2 has joined"
line=$(hpc invite --parsable)
say "n2 has booted; joining it"
if in_n2 hpc join --cpus 1 "$line" 2>/tmp/refused; then fail "hpc join took an option that its unit does not know"; fi
grep -q /etc/default/hpc /tmp/refused || fail "hpc join --cpus: $(cat /tmp/refused)"
mkdir -p /mnt/n2/etc/default
echo 'HPC_WORKER_OPTIONS="--cpus 1"' >/mnt/n2/etc/default/hpc
in_n2 hpc join "$line"
is "$(in_n2 systemctl is-enabled hpc-worker)" enabled "hpc-worker after hpc join"
is "$(in_n2 systemctl is-active hpc-worker)" active "hpc-worker after hpc join"
within 60 "n2 answers" answers n2
hpc node n2 --json | grep -Eq '"cpus": ?1,' || fail "options in /etc/default/hpc: $(hpc node n2 --json)"
is "$(as_alice hpc run -w n2 -D /tmp sh -c 'id -u; hostname')" "2000
n2" "a job on n2"
say "ok: hpc join on n2 enabled and started hpc-worker.service; a job of alice runs there as its alice: $(hpc node n2 | grep -o 'over [a-z]*' | head -1)"

cat >/mnt/n2/home/alice/long.sh </home/alice/long.sh
job=$(as_alice hpc submit --parsable -w n2 -D /home/alice -o /dev/null long.sh)
within 60 "job $job starts on n2" test -s /mnt/n2/home/alice/pid
in_n2 systemctl restart hpc-worker
systemctl restart hpc-controller
within 60 "n2 answers again" answers n2
is "$(state "$job")" RUNNING "restart of both ends: job $job"
touch /mnt/n2/home/alice/go
code=0
timeout 60 hpc wait "$job" || code=$?
is "$code" 7 "the exit code of job $job on n2"
say "ok: systemctl restart of n2's worker and of the controller leaves the job on n2 alone, exit code 7 reported"

machinectl terminate n2
within 60 "n2 is off" sh -c '! systemctl is-active vm-n2'
boot_n2
within 60 "n2 answers after its boot" answers n2
is "$(as_alice hpc run -w n2 -D /tmp hostname)" n2 "a job on n2 after its boot"
say "ok: after a boot n2 is there again by itself"

in_n2 hpc down --yes
is "$(in_n2 systemctl show hpc-worker -p SubState --value)" dead "hpc-worker on n2 after hpc down"
say "ok: hpc down on n2 stops its unit"

in_n2 systemctl start hpc-worker
within 60 "n2 answers after its start" answers n2
hpc node remove --force n2
ended() { [ "$(in_n2 systemctl show hpc-worker -p SubState --value)" = failed ]; }
within 60 "the worker of a removed machine gives up" ended
in_n2 hpc join "$(hpc invite --parsable)"
within 60 "n2 answers after it has joined anew" answers n2
say "ok: the worker of a removed machine is not started again and again; hpc join brings it back"

# ---- and off

hpc down --yes
is "$(prop SubState hpc-controller) $(prop SubState hpc-worker)" "dead dead" "the units after hpc down"
say "ok: hpc down stops both units, and systemd does not start them again"
systemctl start hpc-controller hpc-worker
back "a start after hpc down"
as_alice hpc run true
say "ok: and systemctl start brings them back"
