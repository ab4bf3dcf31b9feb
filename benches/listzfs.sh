#!/bin/sh
# A `zfs` that only lists, from files made before: BENCH_SIDE is source or puller, BENCH_STATE the
# directory of the files. What it is asked for is counted in SIDE.calls.
case $0 in
*/zfs-*) BENCH_SIDE=${0##*/zfs-} ;;
esac
case "$1" in
get) file=datasets ;;
list) file=versions ;;
receive) echo '-A <filesystem|volume>' >&2; exit 2 ;;
destroy) echo '<filesystem|volume>@<snap>[%<snap>][,...]' >&2; exit 2 ;;
load-key) echo 'load-key keylocation' >&2; exit 2 ;;
send) echo 'receive_resume_token' >&2; exit 2 ;;
version) echo zfs-2.3.0; exit ;;
*) echo "not in this bench: $*" >&2; exit 1 ;;
esac
echo "$1" >>"$BENCH_STATE/$BENCH_SIDE.calls"
exec cat "$BENCH_STATE/$BENCH_SIDE.$file"
