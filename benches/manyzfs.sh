#!/bin/sh
# A `zfs`, or `zpool`, that only lists, from files made before (benches/listings.py): what zrepl-trio and a zrepl
# ask for where nothing is new. BENCH_STATE is the directory of the files; each call is counted in its `calls`.
echo "$1" >>"$BENCH_STATE/calls"
for last; do :; done
case "$*" in
"get -Hp -r "*) exec cat "$BENCH_STATE/${last%%/*}.datasets" ;;
"list -Hp -r "*) exec cat "$BENCH_STATE/${last%%/*}.versions" ;;
"list -H -p -o name -r "*) exec cat "$BENCH_STATE/names" ;;
"list "*" -t bookmark -s "*) exec cat "$BENCH_STATE/of/$last/bookmarks" ;;
"list "*" -t bookmark,snapshot "*) exec cat "$BENCH_STATE/of/$last/versions" ;;
"get "*" zrepl:placeholder "*) exec cat "$BENCH_STATE/of/$last/placeholder" ;;
"get "*" receive_resume_token "*) exec cat "$BENCH_STATE/of/$last/token" ;;
"get "*" feature@extensible_dataset "*) echo active; exit ;;
receive) echo '-A <filesystem|volume>' >&2; exit 2 ;;
destroy) echo '<filesystem|volume>@<snap>[%<snap>][,...]' >&2; exit 2 ;;
load-key) echo 'load-key keylocation' >&2; exit 2 ;;
send) echo 'receive_resume_token' >&2; exit 2 ;;
version) echo zfs-2.3.0; exit ;;
*) echo "not in this bench: $*" >&2; exit 1 ;;
esac
