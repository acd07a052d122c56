# Writes a tar archive of files to standard output. $1: `deep` to go into directories; $2: a path or a pattern.
fail() { echo "hpc cp: ${SLURMD_NODENAME:-node}: $*" >&2; exit 1; }
cd -- "${HOME:-/}" 2>/dev/null || cd / || exit 1
deep=$1
IFS=
if [ -e "$2" ] || [ -h "$2" ]; then
    set -- "$2"
else
    # A pattern, if anything: what matches stands for it.
    set -- $2
fi
left=$#
while [ "$left" -gt 0 ]; do
    one=$1
    shift
    left=$((left - 1))
    [ -e "$one" ] || { [ "$deep" = deep ] && [ -h "$one" ]; } || fail "there is no $one"
    [ -f "$one" ] || [ -d "$one" ] || [ -h "$one" ] || fail "$one is neither file nor directory nor symbolic link"
    if [ -f "$one" ] && [ ! -s "$one" ] && [ -n "$(head -c 1 -- "$one" | tr '\000' x)" ]; then
        # As those of /proc. Its size would be what is sent of it.
        fail "$one does not say how long it is: read it with cat in a job there"
    fi
    if [ -d "$one" ] && { [ "$deep" != deep ] || [ ! -h "$one" ]; }; then
        [ "$deep" = deep ] || fail "$one is a directory: say -r"
        other=$(find "$one" ! -type f ! -type d ! -type l -print 2>/dev/null | head -n 1)
        [ -z "$other" ] || fail "$other is neither file nor directory nor symbolic link"
        one=$(cd -- "$one" && pwd -P && echo .) || fail "cannot enter $one"
        one=${one%??}
    fi
    case $one in
        /) fail "/ has no name to go by: name what is in it" ;;
        /*) ;;
        *) one=$PWD/$one ;;
    esac
    around=${one%/*}
    set -- "$@" -C "${around:-/}" "./${one##*/}"
done
[ "$deep" = deep ] || set -- -h "$@"
tar -c -f - "$@"
code=$?
# 1: something changed while it was read, which tar has said.
[ "$code" -le 1 ] || exit 1
