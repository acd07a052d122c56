# Takes a tar archive on standard input to its place. $1: where to; $2: `many` if that has to be a directory;
# $3: `private` to make the directory around it, for ourselves alone, `file` if it must not be a directory.
fail() { echo "hpc cp: ${SLURMD_NODENAME:-node}: $*" >&2; exit 1; }
# Whether $1 is there and no regular file: a device, or a pipe, that must not be replaced.
special() { [ -e "$1" ] && [ ! -f "$1" ] && [ ! -d "$1" ]; }
# Merges $1 into $2 as cp does: directories into directories, files renamed over files, links over links.
place() {
    if special "$2"; then
        echo "hpc cp: ${SLURMD_NODENAME:-node}: $2 is no regular file: it was left as it is" >&2
        return 1
    elif [ ! -d "$2" ] || { [ -h "$1" ] && [ -h "$2" ]; }; then
        mv -f -T -- "$1" "$2" || return 1
    elif [ ! -d "$1" ] || [ -h "$1" ]; then
        echo "hpc cp: ${SLURMD_NODENAME:-node}: $2 is a directory and what comes is none" >&2
        return 1
    else
        for inner in "$1"/* "$1"/.[!.]* "$1"/..?*; do
            [ -e "$inner" ] || [ -h "$inner" ] || continue
            place "$inner" "$2/${inner##*/}" || return 1
        done
    fi
}
cd -- "${HOME:-/}" 2>/dev/null || cd / || exit 1
to=${1:-.}
umask 077
if [ "$3" = private ]; then
    own=${to%/*}
    # Two nodes may have one /tmp: what is there already is as good if it is ours.
    mkdir -- "$own" 2>/dev/null || { [ -d "$own" ] && [ ! -h "$own" ] && [ -O "$own" ]; } || fail "cannot make $own"
fi
if [ -d "$to" ] && [ "$3" = file ]; then
    fail "$to is a directory: end it with a slash"
elif special "$to"; then
    fail "$to is no regular file: it was left as it is"
elif [ -d "$to" ]; then
    into=${to%/}/
    as=
elif [ "$2" = many ] || [ "$to" != "${to%/}" ]; then
    fail "there is no directory $to: make it first"
else
    case $to in
        */*) into=${to%/*}/ as=${to##*/} ;;
        *) into=./ as=$to ;;
    esac
    [ -d "$into" ] || fail "there is no directory $into: make it first"
fi
stage=$(mktemp -d "${into}.hpc-cp-XXXXXX") || fail "cannot write in $into"
trap 'rm -rf -- "$stage"' EXIT
trap 'exit 143' HUP INT TERM
tar -x -p -o -f - -C "$stage" || fail "nothing was put in place"
[ -e "$stage/.hpc-cp-end" ] || fail "it did not come whole: nothing was put in place"
rm -f -- "$stage/.hpc-cp-end"
for one in "$stage"/* "$stage"/.[!.]* "$stage"/..?*; do
    [ -e "$one" ] || [ -h "$one" ] || continue
    place "$one" "$into${as:-${one##*/}}" || fail "not all of it could be put in place"
done
