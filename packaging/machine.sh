#!/usr/bin/env bash
# Machines that are not there: each has its own network, hostname, machine id, processes and private files, and all
# are on one bridge. Tests (tests/it/lab.rs) and the demo (packaging/demo-hosts.sh) start them by this file.
#
#   unshare --net --mount --propagation private machine.sh net
#   nsenter -t NET -n -m unshare --net --mount --uts --ipc --pid --fork --kill-child --propagation private \
#       machine.sh host NAME ADDRESS NUMBER BOOT
#
# Each says `ready` and then lives for as long as its standard input is open; with it goes everything of it. Nothing
# gets a name outside (no /run/netns, no mount, no interface), so nothing can be left and nothing can collide.
#
# The environment of `host`: LAB_NET the process of `net`, LAB_PROGRAM the hpc to find in PATH as /run/lab/bin/hpc,
# LAB_UID and LAB_GID who one is in there where root is only pretended, LAB_KEEP paths (by colons) that stay visible
# under a private directory.
set -euo pipefail

bridge=lab0
gateway=10.77.0.1/16

# The owner's end closes when the owner ends, however it ends. As process 1 bash also collects the orphans.
rest() {
    echo ready
    exec >/dev/null 2>&1
    while read -r _; do :; done
}

case ${1:-} in
net)
    # What the disks of all machines lie on. In memory, and in this namespace only.
    mount -t tmpfs -o mode=755 lab /mnt
    mkdir /mnt/shared /mnt/disks
    chmod 1777 /mnt/shared
    printf '127.0.0.1 localhost\n' >/mnt/names
    # Better to hear now what is not possible here than with the first machine.
    ip -batch - <<END
link add $bridge type bridge
addr add $gateway dev $bridge
link set $bridge up
link set lo up
link add probe0 type veth peer name probe1
link del probe0
END
    unshare --mount --uts --ipc --pid --net --fork --kill-child --propagation private mount -t proc proc /proc
    rest
    ;;
host)
    name=$2 address=$3 number=$4 boot=$5
    disk=/mnt/disks/$name
    exec 9<"/proc/$LAB_NET/ns/net"
    hostname "$name"

    # The same hardware address at each start: the others remember it.
    ip -batch - <<END
link add eth0 address $(printf '02:77:00:00:%02x:%02x' $((number / 256)) $((number % 256))) type veth peer name p$number.$boot netns /proc/self/fd/9
addr add $address/16 dev eth0
link set lo up
link set eth0 up
route add default via ${gateway%/*}
END
    nsenter --net=/proc/self/fd/9 ip link set "p$number.$boot" master $bridge up
    exec 9<&-

    if [ ! -d "$disk" ]; then
        mkdir -p "$disk"/{tmp/home,etc,lib}
        chmod 1777 "$disk"/tmp
        read -r id </proc/sys/kernel/random/uuid
        echo "${id//-/}" >"$disk/etc/machine-id"
        echo "$name" >"$disk/etc/hostname"
        ln -s /run/lab/names "$disk/etc/hosts"
        # Nobody answers questions about names here; better refused at once than after a while.
        echo 'nameserver 127.0.0.1' >"$disk/etc/resolv.conf"
        echo "$address $name" >>/mnt/names
    fi

    # /run is empty after a start, as on a real machine; /tmp, /etc and /var/lib are disks.
    keep=()
    mount -t tmpfs -o mode=755,nosuid,nodev run /run
    mkdir -p /run/lab/{bin,etc,lib,proc,keep} /run/lock
    : >/run/lab/bin/hpc
    : >/run/lab/names
    mount --bind "$LAB_PROGRAM" /run/lab/bin/hpc
    mount --bind /mnt/names /run/lab/names
    IFS=: read -r -a keep <<<"${LAB_KEEP:-}"
    for i in "${!keep[@]}"; do
        mkdir "/run/lab/keep/$i"
        mount --rbind "${keep[i]}" "/run/lab/keep/$i"
    done
    # The machine's own entries show through as links, unless this disk has its own.
    through() { # through DIRECTORY NAME
        mount --rbind "$1" "/run/lab/$2"
        ln -sn "/run/lab/$2"/* "$disk/$2/" 2>/dev/null || true
        # But never a cluster that the real machine is part of.
        [ ! -L "$disk/$2/hpc" ] || rm "$disk/$2/hpc"
        mount --bind "$disk/$2" "$1"
    }
    through /etc etc
    through /var/lib lib
    mount --bind "$disk/tmp" /tmp
    mount -t tmpfs -o mode=1777 shm /dev/shm
    mount --bind /mnt/shared /mnt
    for i in "${!keep[@]}"; do
        [ -e "${keep[i]}" ] || {
            mkdir -p "${keep[i]}"
            mount --rbind "/run/lab/keep/$i" "${keep[i]}"
        }
    done

    # A start of its own, by its boot id. The second, whole /proc lets containers mount theirs: the kernel wants to
    # see one with nothing mounted over.
    mount -t proc proc /proc
    mount -t proc proc /run/lab/proc
    cat /proc/sys/kernel/random/uuid >/run/lab/boot_id
    mount --bind /run/lab/boot_id /proc/sys/kernel/random/boot_id

    if [ "${LAB_UID:-0}" -ne 0 ]; then
        exec unshare --user --map-user="$LAB_UID" --map-group="$LAB_GID" \
            bash -c "$(declare -f rest)"$'\nrest'
    fi
    rest
    ;;
*)
    echo "usage: machine.sh net | machine.sh host NAME ADDRESS NUMBER BOOT (see its first lines)" >&2
    exit 2
    ;;
esac
