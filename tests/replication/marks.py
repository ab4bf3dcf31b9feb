"""The holds and bookmarks that the jobs of `pair` make, by name."""

from __future__ import annotations

from zrepl_trio.endpoint.model import GuaranteeKind
from zrepl_trio.replication.policy import ReplicationOptions

RESUMABILITY, INCREMENTAL, NOTHING = GuaranteeKind
ONCE = ReplicationOptions(attempts=1)


def cursor(guid: int, job: str = "src") -> str:
    return f"#zrepl_CURSOR_G_{guid:016x}_J_{job}"


def tentative(guid: int) -> str:
    return f"#zrepl_CURSORTENTATIVE__G_{guid:016x}_J_src"


LAST = "zrepl_last_received_J_dst"
STEP = "zrepl_STEP_J_src"
