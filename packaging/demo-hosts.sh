# shellcheck shell=bash
# Further machines for the demo, made of namespaces by machine.sh; to be sourced. Needs no root where an ordinary user
# may make user namespaces.
#
#   hosts_start COUNT [DIRECTORY...]   machines ws1, ws2, ... at 10.77.0.2 and on; they see these directories of ours
#   on_host 2 hpc nodes                a command in the second one, in our directory where it has it
#   hosts_address 2                    its address
#   hosts_stop                         all of it goes; it also does when this shell ends in whatever way
#
# HPC names the binary, as for the demo. hosts_start says why and fails where this machine cannot have such hosts.

hosts_machine=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/machine.sh
hosts_init=() # their first processes; from 1 on, as people count
hosts_own=()  # our children that hold them; 0 is the network
hosts_directory=''
hosts_guard=''
hosts_in=()   # what enters the user namespace that the networks belong to
hosts_user=() # what enters the one that is ours inside

hosts_refuse() {
    echo "hosts: no further machines here: $*" >&2
    hosts_stop
    return 1
}

hosts_start() {
    local count=$1 program words number net keep child became=()
    shift
    local seen=("$PWD" "$@")
    for program in env hostname ip mount nsenter tail unshare; do
        command -v "$program" >/dev/null || {
            hosts_refuse "no program $program (Debian: iproute2, util-linux, hostname)"
            return 1
        }
    done
    hosts_directory=$(mktemp -d /tmp/hpc-hosts.XXXXXX) || return 1
    export -n LAB_UID LAB_GID LAB_KEEP LAB_NET LAB_PROGRAM
    words=(unshare)
    if [ "$(id -u)" -ne 0 ]; then
        if ! unshare --user --map-root-user true 2>"$hosts_directory/why"; then
            hosts_refuse "user namespaces are shut ($(cat "$hosts_directory/why")) and you are not root"
            return 1
        fi
        words=(unshare --user --map-root-user)
        became=("LAB_UID=$(id -u)" "LAB_GID=$(id -g)")
    fi

    # Every machine lives as long as this pipe has a writer, and that as long as this shell lives.
    mkfifo "$hosts_directory/hold" "$hosts_directory/ready.0" || return 1
    tail --pid=$$ -f /dev/null >"$hosts_directory/hold" 2>/dev/null &
    hosts_guard=$!
    "${words[@]}" --net --mount --propagation private "$hosts_machine" net \
        <"$hosts_directory/hold" >"$hosts_directory/ready.0" 2>"$hosts_directory/why" &
    net=$!
    hosts_own[0]=$net
    hosts_is_ready 0 || return 1
    if [ ${#became[@]} -gt 0 ]; then
        hosts_in=(nsenter --target "$net" --user --preserve-credentials)
        hosts_user=(--user --preserve-credentials)
    fi

    keep=$(
        IFS=:
        echo "${seen[*]}"
    )
    for ((number = 1; number <= count; number++)); do
        mkfifo "$hosts_directory/ready.$number" || return 1
        "${hosts_in[@]}" nsenter --target "$net" --net --mount \
            env "${became[@]}" LAB_NET="$net" LAB_PROGRAM="$(realpath "$HPC")" LAB_KEEP="$keep" \
            unshare --net --mount --uts --ipc --pid --fork --kill-child --propagation private \
            "$hosts_machine" host "ws$number" "$(hosts_address "$number")" "$number" 1 \
            <"$hosts_directory/hold" >"$hosts_directory/ready.$number" 2>"$hosts_directory/why" &
        hosts_own[number]=$!
        hosts_is_ready "$number" || return 1
        # Its only child. The file ends without a line's end.
        read -r child </proc/$!/task/$!/children || true
        [ -n "$child" ] || {
            hosts_refuse "ws$number has no first process"
            return 1
        }
        hosts_init[number]=$child
    done
    # All have opened what is in there.
    rm -r "$hosts_directory"
    hosts_directory=''
}

# The one started last says so, or why not.
hosts_is_ready() { # hosts_is_ready NUMBER
    local line=''
    read -r -t 20 line <"$hosts_directory/ready.$1" || true
    [ "$line" = ready ] || hosts_refuse "$(cat "$hosts_directory/why")"
}

hosts_address() {
    echo "10.77.0.$(($1 + 1))"
}

on_host() { # on_host NUMBER COMMAND...
    local number=$1 directory=$PWD
    shift
    local enter=("${hosts_in[@]}" nsenter --target "${hosts_init[number]}"
        --net --mount --uts --ipc --pid "${hosts_user[@]}")
    "${enter[@]}" test -d "$directory" || directory=/tmp/home
    "${enter[@]}" env --chdir="$directory" -u HPC_STATE_DIR -u XDG_RUNTIME_DIR -u XDG_STATE_HOME -u XDG_CONFIG_HOME \
        HOME=/tmp/home PATH="/run/lab/bin:$PATH" "$@"
}

hosts_stop() {
    if [ -n "$hosts_guard" ]; then
        # Not by the pipe alone: one may still wait for the other end of it. With its first process goes a machine,
        # and then its holder; one that has none yet goes with its holder.
        kill -KILL "$hosts_guard" "${hosts_init[@]}" 2>/dev/null || true
        local number
        for number in "${!hosts_own[@]}"; do
            [ -n "${hosts_init[number]:-}" ] || kill -KILL "${hosts_own[number]}" 2>/dev/null || true
        done
        wait "$hosts_guard" "${hosts_own[@]}" 2>/dev/null || true
    fi
    [ -z "$hosts_directory" ] || rm -r "$hosts_directory"
    hosts_directory='' hosts_guard='' hosts_init=() hosts_own=() hosts_in=() hosts_user=()
}
