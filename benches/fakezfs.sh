#!/bin/sh
# A `zfs` that costs next to nothing, so that a pull is measured and not the storage: `send` is
# `head`, `recv` is `cat`. BENCH_SIDE is source or puller, BENCH_STATE a directory.
case "$BENCH_SIDE $1" in
"source get")
  for line in 'guid	1001	-' 'type	filesystem	-' 'zrepl:placeholder	-	-' \
    'receive_resume_token	-	-' 'encryption	off	default' 'written	0	-' 'zrepl-trio:source-guid	-	-'; do
    printf 'bench\t%s\n' "$line"
  done ;;
"source list") printf 'bench@one\t4242\t10\t1700000000\t0\n' ;;
"source send")
  case $2 in
  -n) printf 'full\tbench@one\t%s\nsize\t%s\n' "$BENCH_BYTES" "$BENCH_BYTES" ;;
  '') echo 'receive_resume_token' >&2; exit 2 ;;
  *)
    if [ -e "$BENCH_STATE/random" ]; then
      mkfifo "$BENCH_STATE/fifo"
      sha256sum <"$BENCH_STATE/fifo" >"$BENCH_STATE/sent" &
      head -c "$BENCH_BYTES" /dev/urandom | tee "$BENCH_STATE/fifo"
      wait
      rm "$BENCH_STATE/fifo"
    else
      exec head -c "$BENCH_BYTES" /dev/zero
    fi ;;
  esac ;;
"puller get")
  case $5 in
  zrepl:placeholder,*) # what is read back after a receive: PROPERTIES DATASET...
    properties=$(echo "$5" | tr , ' ')
    shift 5
    for fs; do
      for name in $properties; do
        case $name in
        encryption) printf '%s\t%s\toff\tdefault\n' "$fs" "$name" ;;
        zrepl-trio:source-guid) printf '%s\t%s\t1001\tlocal\n' "$fs" "$name" ;;
        *) printf '%s\t%s\t-\t-\n' "$fs" "$name" ;;
        esac
      done
    done
    exit ;;
  esac
  for last; do :; done
  if [ "$last" = dst/bench ] && [ ! -e "$BENCH_STATE/received" ]; then
    echo "cannot open '$last': dataset does not exist" >&2
    exit 1
  fi
  for fs in $last $([ "$last" = dst ] && [ -e "$BENCH_STATE/received" ] && echo dst/bench); do
    for line in 'guid	2002	-' 'type	filesystem	-' 'zrepl:placeholder	-	-' \
      'receive_resume_token	-	-' 'encryption	off	default' 'written	0	-' 'zrepl-trio:source-guid	-	-'; do
      printf '%s\t%s\n' "$fs" "$line"
    done
  done ;;
"puller list") [ ! -e "$BENCH_STATE/received" ] || printf 'dst/bench@one\t4242\t20\t1700000000\t0\n' ;;
"puller recv")
  if [ -e "$BENCH_STATE/random" ]; then sha256sum >"$BENCH_STATE/got"; else cat >/dev/null; fi
  : >"$BENCH_STATE/received" ;;
*" receive") echo '-A <filesystem|volume>' >&2; exit 2 ;;
*" destroy") [ $# -gt 1 ] || { echo '<filesystem|volume>@<snap>[%<snap>][,...]' >&2; exit 2; } ;;
*" load-key") echo 'load-key keylocation' >&2; exit 2 ;;
*" version") echo zfs-2.3.0 ;;
*) ;; # hold, release, holds, bookmark, set: done
esac
