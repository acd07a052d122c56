#!/usr/bin/env bash
# systemd's units, proven in a virtual machine: a Debian with systemd is booted by qemu, `make install-files` puts the
# binary, units and config into it, and packaging/vm/inside.sh does there what an administrator would.
#
#     packaging/vm-test.sh [BINARY]       target/fast/hpc by default; a binary that runs on Debian 12
#
# Needs root (for debootstrap), qemu-system-x86, debootstrap, busybox-static, cpio, e2fsprogs, and, the first time, a
# mirror of Debian. Kernel and disk are kept in target/vm (HPC_VM_DIR): the first run takes some minutes, later ones two
# or three. Exit code 77 means that something is missing here, which is named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=${1:-${CARGO_TARGET_DIR:-target}/fast/hpc}
vm=${HPC_VM_DIR:-${CARGO_TARGET_DIR:-target}/vm}
suite=bookworm
packages=systemd,systemd-sysv,dbus,libpam-systemd,systemd-container,iproute2,procps

say() { echo "vm-test: $*"; }
skip() {
    echo "vm-test: SKIPPED: $*"
    exit 77
}

[ "$(uname -m)" = x86_64 ] || skip "the machine is made for x86_64, and this one is $(uname -m)"
[ "$(id -u)" -eq 0 ] || skip "needs root, for debootstrap"
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need qemu-system-x86_64 qemu-system-x86
need debootstrap debootstrap
need busybox busybox-static
need cpio cpio
need mke2fs e2fsprogs
need make make
need apt-get apt
[ ${#missing[@]} -eq 0 ] || skip "missing here: apt-get install --no-install-recommends ${missing[*]}"
if ldd "$(command -v busybox)" >/dev/null 2>&1; then
    skip "busybox is not static: apt-get install --no-install-recommends busybox-static"
fi
if ! [ -x "$binary" ]; then
    echo "vm-test: no hpc binary at $binary; build it with 'make build'" >&2
    exit 2
fi
# The machine has Debian 12's libraries and no hwloc.
if ldd "$binary" | grep -q libhwloc; then skip "this binary needs libhwloc.so: build it where hwloc links statically"; fi
glibc=$(grep -aoE 'GLIBC_2\.[0-9]+' "$binary" | sort -uV | tail -1)
newest=$(printf '%s\n' "$glibc" GLIBC_2.36 | sort -V | tail -1)
[ "$newest" = GLIBC_2.36 ] || skip "this binary wants $glibc, and Debian 12 has GLIBC_2.36: build it there"

mkdir -p "$vm"
vm=$(realpath "$vm")
work=$(mktemp -d "$vm/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Two at once would make the same disk.
exec 9>"$vm/lock"
flock 9

# ---- kernel and disk, made once

if ! [ -e "$vm/kernel/done" ]; then
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[^ ]*\)$/\1/p' | head -1)
    [ -n "$kernel" ] || skip "apt knows no linux-image-cloud-amd64 (a Debian's package lists are needed: apt-get update)"
    say "fetching $kernel"
    (cd "$work" && apt-get -q download "$kernel" >"$work/log" 2>&1) || skip "$kernel cannot be fetched: $(tail -1 "$work/log")"
    rm -rf "$vm/kernel"
    mkdir "$vm/kernel"
    dpkg -x "$work"/linux-image-*.deb "$vm/kernel"
    touch "$vm/kernel/done"
fi
disk=$vm/$suite.img
# Other packages are another disk.
if ! [ -e "$disk" ] || [ "$(cat "$disk.packages" 2>/dev/null)" != "$packages" ]; then
    mirror=$(grep -hoE 'https?://[^ ]+' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -E '/debian/?$' | head -1 || true)
    say "making a disk of Debian $suite from ${mirror:=http://deb.debian.org/debian}"
    debootstrap --variant=minbase --include="$packages" "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 ||
        skip "debootstrap failed: $(tail -1 "$work/log")"
    rm -rf "$work"/root/var/cache/apt/archives/*.deb
    # A serial console is waited for 90 s.
    ln -sf /dev/null "$work/root/etc/systemd/system/serial-getty@ttyS0.service"
    mke2fs -q -t ext4 -d "$work/root" "$work/disk" 900M
    mv "$work/disk" "$disk"
    echo "$packages" >"$disk.packages"
    rm -rf "$work/root"
fi

# ---- what this run adds: the installation and the test

tree=$work/initrd
payload=$tree/payload
mkdir -p "$tree/bin" "$tree/modules" "$payload/etc/systemd/system/default.target.wants"
make -s install-files BINARY="$(realpath "$binary")" DESTDIR="$payload" PREFIX=/usr
install -D -m 755 packaging/vm/inside.sh "$payload/usr/local/sbin/vm-test"
install -m 644 packaging/vm/vm-test.service "$payload/etc/systemd/system/"
# Beside the target, not in it: the target must be there when the test begins.
ln -s ../vm-test.service "$payload/etc/systemd/system/default.target.wants/vm-test.service"
echo head >"$payload/etc/hostname"
printf '127.0.0.1 localhost head\n' >"$payload/etc/hosts"
cp "$(command -v busybox)" "$tree/bin/busybox"
install -m 755 packaging/vm/init "$tree/init"
module() { find "$vm/kernel/lib/modules" "$vm/kernel/usr/lib/modules" -name "$1.ko" 2>/dev/null | head -1; }
for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk veth; do
    cp "$(module "$name")" "$tree/modules/"
done
(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
flock -u 9

# ---- boot

# TCG and not KVM: it works everywhere, also in a virtual machine. The second drive is the other machine's disk.
say "booting; the machine's words follow"
began=$SECONDS
TMPDIR=$work timeout "${HPC_VM_TIMEOUT:-900}" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max \
    -smp 2 -m 1536 -nodefaults -no-reboot -display none -serial stdio \
    -drive "file=$disk,if=virtio,format=raw,snapshot=on,file.locking=off" \
    -drive "file=$disk,if=virtio,format=raw,snapshot=on,file.locking=off" \
    -kernel "$(echo "$vm"/kernel/boot/vmlinuz-*)" -initrd "$work/initrd.gz" \
    -append "console=ttyS0 panic=-1 quiet loglevel=3 systemd.show_status=false" </dev/null 2>&1 |
    sed -u 's|\r$||' | tee "$work/console.log" || true
# Several may run at once; this is the latest.
cp "$work/console.log" "$vm/console.log"
say "the machine ran for $((SECONDS - began)) s; its words are in $vm/console.log"
if grep -qx 'TEST_RC=0' "$work/console.log"; then
    say "PASS: $(grep -c '\] ok: ' "$work/console.log") things shown"
else
    say "FAIL: $(grep -a 'TEST_RC=' "$work/console.log" || echo 'the machine never said TEST_RC')"
    exit 1
fi
