#!/usr/bin/env bash
# Installs what building (`setup.sh build`) and testing (`setup.sh test`) hpc needs on Debian, Ubuntu or Fedora.
# Repeating it costs nothing: when all is there it looks and leaves. Only package installation needs root;
# it asks `sudo` for that, and says so. Rust itself comes from rustup (rust-toolchain.toml names the version).
#
# It also makes target/hwloc-static/: a copy of libhwloc.a beside an own hwloc.pc that does not name libudev.
# `.cargo/config.toml` puts that folder first for pkg-config, so the linker takes the archive, and the binary
# needs nothing but glibc (src/sys/udev_absent.rs gives the five libudev names that the archive asks for).
# Where the distribution ships no archive (Fedora), the same file names the shared library instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=${1:-build}
case $mode in
build | test) ;;
*)
    echo "usage: packaging/setup.sh [build|test]" >&2
    exit 2
    ;;
esac

say() { echo "setup: $*"; }
die() {
    echo "setup: $*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# ---- packages -----------------------------------------------------------------------------------------------

missing_apt=()
missing_dnf=()
extra_apt=()
extra_dnf=()
need() { # need COMMAND APT-PACKAGE DNF-PACKAGE
    have "$1" && return
    missing_apt+=("$2")
    missing_dnf+=("$3")
}
need_file() { # need_file HEADER APT-PACKAGE DNF-PACKAGE
    [ -e "/usr/include/$1" ] && return
    missing_apt+=("$2")
    missing_dnf+=("$3")
}
like() { # like PATH-ON-DEBIAN APT-PACKAGES PATH-ON-FEDORA DNF-PACKAGES: done without where it cannot be had
    local path
    for path in $1 $3; do
        [ ! -e "$path" ] || return 0
    done
    # shellcheck disable=SC2206 # several in a word
    extra_apt+=($2) extra_dnf+=($4)
}

need cc gcc gcc
need_file stdio.h libc6-dev glibc-devel
need make make make
need pkg-config pkg-config pkgconf-pkg-config
if ! have pkg-config || ! pkg-config --exists hwloc; then
    missing_apt+=(libhwloc-dev)
    missing_dnf+=(hwloc-devel)
fi
if [ "$mode" = test ]; then
    # Several machines on one, for the tests of networks (packaging/machine.sh).
    need ip iproute2 iproute
    need nft nftables nftables
    need hostname hostname hostname
    need unshare util-linux util-linux
    need nsenter util-linux util-linux-core
    need mount mount util-linux-core
    need ps procps procps-ng
    need python3 python3 python3
    need setpriv util-linux util-linux
    need flock util-linux util-linux-core
    # Machines whose clocks are wrong (its library, which comes with the command).
    need faketime faketime libfaketime
    # The two families of MPI, as users have them; gfortran and libpmix come along. Some 200 MiB.
    like /usr/bin/mpicc.mpich "mpich libmpich-dev" /usr/lib64/mpich/bin/mpicc mpich-devel
    like /usr/bin/mpicc.openmpi "openmpi-bin libopenmpi-dev" /usr/lib64/openmpi/bin/mpicc openmpi-devel
    like /usr/bin/hpcc hpcc /usr/lib64/openmpi/bin/hpcc "" # a real program, for Open MPI
    # Newer ones, see mpi-wheels.sh.
    python3 -c 'import ensurepip' 2>/dev/null || extra_apt+=(python3-venv)
fi

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        say "installing needs root: sudo $*"
        sudo "$@"
    else
        die "installing needs root and there is no sudo; run as root: $*"
    fi
}

install_apt() {
    # Another one may be installing just now.
    local words=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q
        --no-install-recommends "$@")
    as_root "${words[@]}" && return
    say "package lists may be old; refreshing them"
    as_root apt-get update -q && as_root "${words[@]}"
}
install_dnf() {
    as_root dnf install -y -q --setopt=install_weak_deps=False "$@"
}

if [ ${#missing_apt[@]} -gt 0 ]; then
    if have apt-get; then
        say "installing ${missing_apt[*]}"
        install_apt "${missing_apt[@]}" || die "could not install ${missing_apt[*]}"
    elif have dnf; then
        say "installing ${missing_dnf[*]}"
        install_dnf "${missing_dnf[@]}" || die "could not install ${missing_dnf[*]}"
    else
        die "neither apt-get nor dnf here; please install: ${missing_apt[*]} (Debian's names)"
    fi
fi
# In a subshell, since as_root ends the shell where it cannot be root.
if have apt-get && [ ${#extra_apt[@]} -gt 0 ]; then
    say "installing ${extra_apt[*]}"
    (install_apt "${extra_apt[@]}") || say "going on without ${extra_apt[*]}: their tests will be SKIPPED"
elif ! have apt-get && have dnf && [ ${#extra_dnf[@]} -gt 0 ]; then
    say "installing ${extra_dnf[*]}"
    (install_dnf "${extra_dnf[@]}") || say "going on without ${extra_dnf[*]}: their tests will be SKIPPED"
fi

have cargo || die "no cargo: install Rust with rustup (https://rustup.rs), then repeat"

if [ "$mode" = test ] && ! have cargo-nextest; then
    say "no cargo nextest: building it once with cargo install (some minutes)"
    cargo install --locked cargo-nextest
fi
if [ "$mode" = test ]; then packaging/mpi-wheels.sh; fi

# ---- hwloc, linked statically -------------------------------------------------------------------------------

# The library of the system, not the folder that an earlier run made.
hwloc_libdir=$(pkg-config --variable=libdir hwloc)
hwloc_includedir=$(pkg-config --variable=includedir hwloc)
hwloc_version=$(pkg-config --modversion hwloc)
pkg-config --atleast-version=2.8 hwloc ||
    die "hwloc $hwloc_version is too old: 2.8 or later is needed (Debian 12, Ubuntu 24.04, Fedora 37)"

folder=${CARGO_TARGET_DIR:-target}/hwloc-static
case $folder in
/*) ;;
*) folder=$PWD/$folder ;;
esac
# .cargo/config.toml can only name a fixed place; with another target directory that place is a link.
fixed=$PWD/target/hwloc-static
if [ "$folder" = "$fixed" ]; then
    [ ! -L "$fixed" ] || rm "$fixed"
    mkdir -p "$folder"
else
    mkdir -p "$folder" target
    if [ -d "$fixed" ] && [ ! -L "$fixed" ]; then rm -r "$fixed"; fi
    ln -sfn "$folder" "$fixed"
fi

# Does the archive link with nothing but libc, libm and our five names? Asked once, of the linker itself.
archive_links() {
    local work
    work=$(mktemp -d)
    cat >"$work/probe.c" <<'C'
#include <hwloc.h>
void *udev_new(void) { return 0; }
void *udev_unref(void *u) { (void)u; return 0; }
void *udev_device_unref(void *d) { (void)d; return 0; }
void *udev_device_new_from_subsystem_sysname(void *u, const char *s, const char *n) { (void)u; (void)s; (void)n; return 0; }
const char *udev_device_get_property_value(void *d, const char *k) { (void)d; (void)k; return 0; }
int main(void) {
    hwloc_topology_t t;
    return hwloc_topology_init(&t) || hwloc_topology_load(t);
}
C
    local rc=0
    cc -o "$work/probe" "$work/probe.c" -I"$hwloc_includedir" "$1" -lm >"$work/log" 2>&1 && "$work/probe" || rc=1
    rm -r "$work"
    return $rc
}

write_pc() { # write_pc LIBDIR EXTRA-LIBS
    cat >"$folder/hwloc.pc.new" <<PC
# Made by packaging/setup.sh; see there.
Name: hwloc
Description: Hardware locality, linked as hpc needs it
Version: $hwloc_version
Cflags: -I$hwloc_includedir
Libs: -L$1 -lhwloc$2
PC
    mv "$folder/hwloc.pc.new" "$folder/hwloc.pc"
}

pc_is_current() { # pc_is_current LIBDIR
    [ -e "$folder/hwloc.pc" ] &&
        grep -qx "Version: $hwloc_version" "$folder/hwloc.pc" &&
        grep -q "^Libs: -L$1 " "$folder/hwloc.pc"
}

archive=$hwloc_libdir/libhwloc.a
if [ -e "$archive" ] && cmp -s "$archive" "$folder/libhwloc.a" && pc_is_current "$folder"; then
    : # static, and up to date
elif [ -e "$folder/shared" ] && pc_is_current "$hwloc_libdir" && [ ! "$archive" -nt "$folder/shared" ]; then
    : # shared, and nothing new to try
elif [ -e "$archive" ] && archive_links "$archive"; then
    rm -f "$folder/shared"
    cp "$archive" "$folder/libhwloc.a.new"
    mv "$folder/libhwloc.a.new" "$folder/libhwloc.a"
    write_pc "$folder" " -lm"
    say "hwloc $hwloc_version will be linked statically"
else
    rm -f "$folder/libhwloc.a"
    write_pc "$hwloc_libdir" ""
    : >"$folder/shared"
    if [ -e "$archive" ]; then
        why="$archive needs more than libc and libm"
    else
        why="this distribution has no libhwloc.a"
    fi
    say "hwloc $hwloc_version will be linked as a shared library ($why): the binary will need libhwloc.so where it runs"
fi
