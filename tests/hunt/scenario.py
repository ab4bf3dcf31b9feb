"""What one seed means: two hosts, their jobs and what goes wrong. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

__all__ = ["CHANGES", "CYCLE_S", "Event", "Scenario", "scenario_of"]

CYCLE_S = 600
"""Snapshots are taken, and replicated, that often."""

FAULTY_CYCLES = 50
QUIET_CYCLES = 4
"""So many more, without faults, in which all has to come right."""

_KINDS = ("guarantee_resumability", "guarantee_incremental")
_SENDER_RULES = (
    '[{type: regex, regex: ".*"}]',
    "[{type: not_replicated}, {type: last_n, count: 2}]",
    "[{type: not_replicated, keep_snapshot_at_cursor: false}]",
    "[{type: last_n, count: 1}]",
    '[{type: not_replicated}, {type: grid, grid: "1x20m(keep=all) | 3x1h", regex: "^zrepl_"}]',
)
_RECEIVER_RULES = (
    '[{type: regex, regex: ".*"}]',
    "[{type: last_n, count: 3}]",
    '[{type: grid, grid: "1x30m(keep=all) | 4x1h", regex: "^zrepl_"}]',
    "[{type: calendar, hourly: 4}]",
    '[{type: regex, regex: "nothing"}]',
)
CHANGES = (
    "hold_of",
    "release_of",
    "bookmark",
    "destroy_bookmark",
    "destroy_snapshots",
    "set_properties",
    "create_filesystem",
)
_READS = ("versions", "versions_below", "datasets", "datasets_in", "holds_of", "properties_of")
_STREAMS = ("open_send", "open_receive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something goes wrong at `at`, in seconds. `kind` says what, and what the rest means:

    `cut`: the next connection breaks once `count` bytes have gone over it; `down`: nothing gets over the
    link for `count` seconds; `silence`: what is sent meanwhile hangs; `kill`: the daemon of `host` ends and
    starts again `count` seconds later; `before`, `after`: the next call of `name` on `host` fails, without
    or with its effect; `stop`: the next stream of `host` ends after `count` bytes; `destroy`: somebody destroys
    a snapshot of a filesystem of the sender's, by `count` from the newest; `release`: somebody releases all
    holds of it; `unmark`: somebody destroys its bookmarks.
    """

    at: float
    kind: str
    host: str = ""
    name: str = ""
    count: int = 0

    def __str__(self) -> str:
        words = [f"{self.at:8.1f} s", self.kind, self.host, self.name, str(self.count or "")]
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`pushes`: the host with the data connects; else it is connected to."""

    seed: int
    pushes: bool
    filesystems: tuple[str, ...]
    protection: str
    keep_sender: str
    keep_receiver: str
    steps: int
    size: int
    events: tuple[Event, ...]

    @property
    def faulty_s(self) -> int:
        return FAULTY_CYCLES * CYCLE_S

    @property
    def lasts_s(self) -> int:
        return (FAULTY_CYCLES + QUIET_CYCLES) * CYCLE_S

    def configs(self) -> dict[str, str]:
        """By host: `app` has the data."""
        names = ", ".join(f'"tank/{name}": true' for name in self.filesystems)
        sending = f"""
  filesystems: {{{names}}}
  snapshotting: {{type: periodic, interval: 10m, prefix: zrepl_}}
"""
        receiving = """
  root_fs: storage/backups
  recv: {placeholder: {encryption: inherit}}
"""
        active = f"""
  replication:
    protection: {{initial: guarantee_resumability, incremental: {self.protection}}}
    concurrency: {{steps: {self.steps}}}
  pruning:
    foreign: destroy
    keep_sender: {self.keep_sender}
    keep_receiver: {self.keep_receiver}
  connect:
    type: tcp
    address: "peer.example.com:8888"
"""
        serve = '  serve: {type: tcp, listen: ":8888", clients: {"10.0.0.1": "client"}}'
        if self.pushes:
            return {
                "app": f"jobs:\n- name: push\n  type: push{sending}{active}",
                "backup": f"jobs:\n- name: sink\n  type: sink{receiving}{serve}\n",
            }
        return {
            "app": f"jobs:\n- name: source\n  type: source{sending}{serve}\n",
            "backup": f"jobs:\n- name: pull\n  type: pull\n  interval: 10m{receiving}{active}",
        }


def scenario_of(seed: int) -> Scenario:
    """Always the same."""
    rng = Random(seed)
    size = rng.choice((2_000, 40_000, 400_000))
    count = rng.randint(3, 12)
    events = sorted(
        (_event(rng, size) for _ in range(count)), key=lambda event: (event.at, str(event))
    )
    return Scenario(
        seed=seed,
        pushes=rng.random() < 0.5,
        filesystems=tuple(f"f{number}" for number in range(rng.randint(1, 3))),
        protection=rng.choice(_KINDS),
        keep_sender=rng.choice(_SENDER_RULES),
        keep_receiver=rng.choice(_RECEIVER_RULES),
        steps=rng.choice((1, 2)),
        size=size,
        events=tuple(events),
    )


def _event(rng: Random, size: int) -> Event:
    # most things go wrong while something is done: about the beginning of a cycle
    at = rng.randint(0, FAULTY_CYCLES - 1) * CYCLE_S + rng.choice((0.0, 0.0, rng.uniform(0, 600)))
    host = rng.choice(("app", "backup"))
    kind = rng.choice(
        [
            "cut",
            "cut",
            "cut",
            "down",
            "silence",
            "kill",
            "kill",
            "before",
            "after",
            "after",
            "stop",
            "destroy",
            "release",
            "unmark",
        ]
    )
    match kind:
        case "cut":
            return Event(at=at, kind=kind, count=rng.randint(1, rng.choice((3_000, 3 * size))))
        case "down" | "silence":
            return Event(at=at, kind=kind, count=_lasts(rng.choice((1, 30, 900, 5_000)), at))
        case "kill":
            at += rng.uniform(0, 0.2)
            count = _lasts(rng.choice((1, 700, 3_000)), at)
            return Event(at=at, kind=kind, host=host, count=count)
        case "before":
            name = rng.choice((*CHANGES, *_READS, *_STREAMS))
            return Event(at=at, kind=kind, host=host, name=name)
        case "after":
            return Event(at=at, kind=kind, host=host, name=rng.choice(CHANGES))
        case "stop":
            return Event(at=at, kind=kind, host="app", count=rng.randint(1, 2 * size))
        case _:
            return Event(at=at, kind=kind, name=rng.choice(("f0", "f1")), count=rng.randint(0, 3))


def _lasts(seconds: int, at: float) -> int:
    """It is over when the quiet cycles begin."""
    return max(1, min(seconds, int(FAULTY_CYCLES * CYCLE_S - at)))
