#!/bin/sh
# The emulated `zfs` with streams of BENCH_BYTES: `send` keeps what it would give in BENCH_STATE, and gives zeros;
# `recv` takes those, and has what was kept received. So daemons are measured, and neither storage nor emulation. Each call is
# counted in BENCH_STATE/calls.
echo "$1" >>"$BENCH_STATE/calls"
case "$1 $2" in
"send -n"* | "send " | "recv " | "receive ") ;;
send*)
  "$BENCH_ZFS" "$@" >"$BENCH_STATE/stream" || exit
  exec head -c "$BENCH_BYTES" /dev/zero
  ;;
recv* | receive*)
  case " $* " in
  *" -A "*) ;;
  *)
    cat >/dev/null
    exec "$BENCH_ZFS" "$@" <"$BENCH_STATE/stream"
    ;;
  esac
  ;;
esac
exec "$BENCH_ZFS" "$@"
