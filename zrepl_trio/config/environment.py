"""zrepl's environment variables (behaviour reference, 2): those that mean something here, and the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from zrepl_trio.config.scalars import GO_DURATION_WORDS, ScalarError, parse_go_duration
from zrepl_trio.errors import Refused

__all__ = ["DEFAULT_TUNING", "READ", "WITHOUT_EFFECT", "Tuning", "ignored", "read_tuning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What the environment sets for all jobs; the defaults are zrepl's.

    `attempts` is the most of them in a run, `reconnect_s` the longest wait for the link between two
    (0: none), `hook_log_bytes` how much of a hook's output is logged, for each edge.
    """

    attempts: int = 3
    reconnect_s: float = 600.0
    hook_log_bytes: int = 1 << 20


DEFAULT_TUNING = Tuning()

_ATTEMPTS = "ZREPL_REPLICATION_MAX_ATTEMPTS"
_RECONNECT = "ZREPL_REPLICATION_RECONNECT_HARD_FAIL_TIMEOUT"
_HOOK_LOG = "ZREPL_MAX_HOOK_LOG_SIZE"

READ = (_ATTEMPTS, _RECONNECT, _HOOK_LOG, "ZREPL_KEYLOG_FILE")
"""Those that have zrepl's meaning; the last is read where TLS contexts are made."""

_FIXED = "what zrepl limits by it has a limit of its own here"
_DEBUG = "an outlet of level debug logs each command instead"
_DETECTED = "what zfs can do is always asked of it"
_INTERNAL = "it is about the inside of zrepl"

WITHOUT_EFFECT: Mapping[str, str] = {
    "ZREPL_DESTROY_MAX_BATCH_SIZE": "as many snapshots go into one `zfs destroy` as a command line holds, "
    "and one that fails is tried again in halves",
    "ZREPL_PRUNER_RETRY_INTERVAL": "zrepl does not use it either",
    "ZREPL_SNAPPER_SYNCUP_WARN_MIN_DURATION": _INTERNAL,
    "ZREPL_WALLCLOCKTIMER_MAX_DELAY": _FIXED,
    "ZREPL_ZFS_SEND_STDERR_MAX_CAPTURE_SIZE": _FIXED,
    "ZREPL_ZFS_SEND_SIZE_ESTIMATE_INCORRECT_THRESHOLD": "sizes are taken as zfs tells them",
    "ZREPL_ZFS_RESUME_RECV_POOL_SUPPORT_RECHECK_TIMEOUT": _DETECTED,
    "ZREPL_ZFS_MAX_HOLD_TAG_LEN": _FIXED,
    "ZFS_SEND_PIPE_CAPACITY_HINT": _FIXED,
    "ZFS_RECV_PIPE_CAPACITY_HINT": _FIXED,
    "ZREPL_EXPERIMENTAL_ZFS_ENCRYPTION_CLI_SUPPORTED": _DETECTED,
    "ZREPL_EXPERIMENTAL_ZFS_SEND_RESUME_SUPPORTED": _DETECTED,
    "ZREPL_EXPERIMENTAL_ZFS_COMMA_SYNTAX_SUPPORTED": _DETECTED,
    "ZREPL_ENDPOINT_RECV_PEEK_SIZE": _FIXED,
    "ZREPL_ENDPOINT_DISABLE_PLACEHOLDER_RESTORATION": _INTERNAL,
    "ZREPL_ENDPOINT_LIST_ABSTRACTIONS_QUERY_CREATETXG_RANGE_BOUND_ALLOW_0": _INTERNAL,
    "ZREPL_RPC_CLIENT_VERSIONHANDSHAKE_TIMEOUT": _FIXED,
    "ZREPL_RPC_SERVER_VERSIONHANDSHAKE_TIMEOUT": _FIXED,
    "ZREPL_TRANSPORT_MUX_TIMEOUT": _FIXED,
    "ZREPL_TRANSPORT_DEMUX_TIMEOUT": _FIXED,
    "ZREPL_RPC_DATACONN_PING_SLEEP": _INTERNAL,
    "ZREPL_DAEMON_CONTROL_SERVER_WRITE_TIMEOUT": _FIXED,
    "ZREPL_DAEMON_CONTROL_SERVER_READ_TIMEOUT": _FIXED,
    "ZREPL_DAEMON_AUTOSTART_PPROF_SERVER": "there is no profiling server",
    "ZREPL_TRACE_ID_NUM_BYTES": _INTERNAL,
    "ZREPL_ACTIVITY_TRACE": _DEBUG,
    "ZREPL_ZFS_DEBUG": _DEBUG,
    "ZREPL_RPC_DEBUG": _DEBUG,
    "ZREPL_RPC_DATACONN_DEBUG": _DEBUG,
    "ZREPL_RPC_DATACONN_STREAM_DEBUG": _DEBUG,
    "ZREPL_RPC_DATACONN_HEARTBEATCONN_DEBUG": _DEBUG,
    "ZREPL_REPLICATION_DRIVER_DEBUG": _DEBUG,
    "IOCOMMAND_TIMEOUT": _FIXED,
}
"""The others, with what there is instead."""


def read_tuning(environ: Mapping[str, str]) -> Tuning:
    """What zrepl's variables say; Refused, naming the variable, for a value that it cannot have."""
    attempts = _count(environ, _ATTEMPTS, DEFAULT_TUNING.attempts)
    hook_log_bytes = _count(environ, _HOOK_LOG, DEFAULT_TUNING.hook_log_bytes)
    reconnect_s = DEFAULT_TUNING.reconnect_s
    if text := environ.get(_RECONNECT):
        try:
            reconnect_s = parse_go_duration(text)
        except ScalarError:
            reconnect_s = -1.0
        if reconnect_s < 0:
            raise _refused(_RECONNECT, text, GO_DURATION_WORDS)
    return Tuning(attempts=attempts, reconnect_s=reconnect_s, hook_log_bytes=hook_log_bytes)


def ignored(environ: Mapping[str, str]) -> list[str]:
    """A remark on each variable of zrepl's that is set and has no effect here."""
    return [
        f"{name} is set in the environment, and has no effect here: {why}"
        for name, why in WITHOUT_EFFECT.items()
        if environ.get(name)
    ]


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) == 0:
        raise _refused(name, text, "a whole number, 1 at least")
    return int(text)


def _refused(name: str, text: str, accepted: str) -> Refused:
    return Refused(
        f"{name}={text!r} in the environment makes no sense: mend it, or unset it (accepted: {accepted})"
    )
