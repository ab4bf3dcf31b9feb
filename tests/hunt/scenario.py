"""What one seed means: hosts, their jobs, and what goes wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from tests.hunt.topology import TOPOLOGIES, Topology, topology_of

__all__ = [
    "AFTER",
    "BEFORE",
    "CYCLE_S",
    "DURING",
    "FAULTY_S",
    "KINDS",
    "LASTS_S",
    "STREAMS",
    "Event",
    "Scenario",
    "scenario_of",
]

CYCLE_S = 600
"""Snapshots are taken, and replicated, that often."""

FAULTY_S = 50 * CYCLE_S
"""From then on, nothing goes wrong any more."""

LASTS_S = FAULTY_S + 3 * CYCLE_S - 5
"""Two cycles after the first one without a fault, all has to have come right."""

STEPS = 120
"""About as many times do the tasks of a daemon go on, from one await to the next, in a cycle."""

MIN_EVENTS = 7
"""So many are drawn at least, of which at least three have an effect."""

STREAMS = ("open_send", "open_receive")

BEFORE: Mapping[str, Mapping[str, float]] = {
    "sender": {
        "bookmark": 2,
        "dataset": 0.5,
        "datasets": 1,
        "datasets_in": 2,
        "decode_token": 0.3,
        "destroy_bookmark": 2,
        "destroy_snapshots": 2,
        "features": 1,
        "hold": 2,
        "holds": 0.5,
        "holds_of": 1,
        "open_send": 4,
        "packed_sizes": 1,
        "release": 2,
        "send_size": 0.3,
        "snapshot": 3,
        "versions": 2,
        "versions_below": 2,
    },
    "receiver": {
        "abort_receive": 0.1,
        "create_filesystem": 1,
        "dataset": 1,
        "datasets": 2,
        "decode_token": 0.3,
        "destroy_snapshots": 2,
        "features": 1,
        "hold": 2,
        "holds": 0.5,
        "holds_of": 2,
        "open_receive": 4,
        "properties": 0.5,
        "properties_of": 2,
        "release": 2,
        "rename": 0.3,
        "rollback": 0.1,
        "versions": 2,
        "versions_below": 2,
    },
}
"""What may fail without its effect, and how often that is drawn, by what a host does in a flow."""

AFTER: Mapping[str, Mapping[str, float]] = {
    "sender": {
        "bookmark": 2,
        "destroy_bookmark": 1,
        "destroy_snapshots": 2,
        "hold": 2,
        "release": 2,
        "snapshot": 3,
    },
    "receiver": {
        "abort_receive": 0.1,
        "create_filesystem": 1,
        "destroy_filesystem": 0.1,
        "destroy_snapshots": 2,
        "hold": 2,
        "open_receive": 4,
        "release": 2,
        "rename": 0.5,
        "rollback": 0.1,
        "set_properties": 0.1,
    },
}
"""What may fail with its effect."""

DURING: Mapping[str, Mapping[str, float]] = {
    "sender": {"change_bookmarks": 3, "destroy_snapshots": 1, "hold": 1, "release": 1},
    "receiver": {"destroy_snapshots": 1, "hold": 0.2, "hold_of": 2, "release_of": 2},
}
"""What may fail with a part of its effect."""

_AT_FIRST = ("create_filesystem", "properties")
"""What is called where a copy is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something goes wrong at `at`, in seconds, or, on a host, when its moment has come then: after `calls` more zfs
    commands, if `opening` at the first after these that opens a stream; after its daemon's tasks have gone on `steps`
    more times, from any await to the next; once `moved` bytes of a stream have come or gone. What is not possible then
    happens as soon as it is. `kind` says what, and what the rest means:

    On the link of the job `name`: `cut`: its next connection breaks once `count` bytes have gone over it, or,
    with `calls`, `count` bytes into that of its next writes;
    once `moved` bytes more have gone over it, `down`: nothing gets over for `count` seconds; `silence`: what is sent
    meanwhile hangs; `slow`: for `count` seconds it takes `rate` bytes a second.

    On `host`: `kill`: the daemon ends, and starts again `count` seconds later;
    `before`, `during`, `after`: the next call of `name` fails, without its effect, with a part of it, or with all
    of it; `stop`: the next longer stream that it sends ends after `count` bytes; `full`: its pool has room for `count`
    bytes more, for an hour; `clock`: it is set by `count` seconds.

    By an admin of `host`, to its filesystem `name`, where it is not said otherwise to the snapshot `count` from
    the newest: `destroy`: it is destroyed; `hold`: it is held, for good; `release`: all holds of all
    snapshots go; `unmark`: all bookmarks go; `take`: a snapshot is taken by hand; `touch`: it is written to;
    `rename`: it has another name; `create`: it is made; `remove`: it is destroyed with all its snapshots.
    """

    at: float
    kind: str
    host: str = ""
    name: str = ""
    count: int = 0
    calls: int = 0
    steps: int = 0
    opening: bool = False
    moved: int = 0
    rate: int = 0

    @property
    def waits(self) -> bool:
        """Whether it waits for a moment on its host."""
        return bool(self.calls or self.steps or self.opening or self.moved)

    def __str__(self) -> str:
        words = [f"{self.at:8.1f} s", self.kind, self.host, self.name, str(self.count or "")]
        words += [f"after {self.calls} calls"] if self.calls else []
        words += [f"after {self.steps} steps"] if self.steps else []
        words += ["at a stream's opening"] if self.opening else []
        words += [f"{self.moved} bytes into a stream"] if self.moved else []
        words += [f"{self.rate} B/s"] if self.rate else []
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`filesystems` are those of each host that has data; each write has up to `size` bytes. `bulk`: OpenZFS's C library
    is there."""

    seed: int
    topology: Topology
    filesystems: tuple[str, ...]
    size: int
    encrypted: bool
    bulk: bool
    events: tuple[Event, ...]

    @property
    def steady(self) -> bool:
        """Whether no clock is ever set."""
        return all(event.kind != "clock" for event in self.events)

    def __str__(self) -> str:
        flows = "\n".join(
            f"  {flow.job}: {flow.initial}, {flow.incremental}, foreign {flow.foreign}"
            f"{', follows renames' if flow.follows else ''}, divergence {flow.divergence}\n"
            f"    keep_sender {', '.join(map(str, flow.keep_sender))}\n"
            f"    keep_receiver {', '.join(map(str, flow.keep_receiver))}"
            + "".join(f"\n    floor {rule}" for rule in (*flow.floor, *flow.sender_floor))
            for flow in self.topology.flows
        )
        events = "\n".join(f"  {event}" for event in self.events)
        return f"{self.topology.name} of {', '.join(self.filesystems)}\n{flows}\n{events}"


def scenario_of(seed: int) -> Scenario:
    """Always the same."""
    rng = Random(seed)
    name = rng.choice(("pull", "pull", "push", "push", *TOPOLOGIES))
    topology = topology_of(name, rng)
    size = rng.choice((2_000, 40_000, 400_000))
    filesystems = tuple(f"f{number}" for number in range(rng.randint(1, 3)))
    if rng.random() < 0.25:
        filesystems = (*filesystems[:2], "f0/inner")
    draw = _Events(rng, topology, filesystems, size)
    events = sorted(
        (draw() for _ in range(rng.randint(MIN_EVENTS, 12))),
        key=lambda event: (event.at, str(event)),
    )
    return Scenario(
        seed=seed,
        topology=topology,
        filesystems=filesystems,
        size=size,
        encrypted=rng.random() < 0.3,
        bulk=rng.random() < 0.75,
        events=tuple(events),
    )


KINDS = {
    "cut": 4,
    "down": 2,
    "silence": 2,
    "slow": 1,
    "kill": 4,
    "before": 3,
    "during": 1.5,
    "after": 3,
    "stop": 2,
    "full": 1,
    "clock": 0.5,
    "destroy": 0.7,
    "hold": 1,
    "release": 0.5,
    "unmark": 0.5,
    "take": 0.8,
    "touch": 0.3,
    "rename": 0.5,
    "create": 0.7,
    "remove": 0.3,
}
"""How often each is drawn."""


class _Events:
    def __init__(
        self, rng: Random, topology: Topology, filesystems: tuple[str, ...], size: int
    ) -> None:
        self._rng = rng
        self._topology = topology
        self._filesystems = filesystems
        self._size = size

    def __call__(self) -> Event:
        rng, size = self._rng, self._size
        # most things go wrong while something is done: about the beginning of a cycle; the first shows what is normal
        at = rng.randint(1, 49) * CYCLE_S + rng.choice((0.0, 0.0, rng.uniform(0, 600)))
        host = rng.choice(tuple(self._topology.configs))
        job = rng.choice(self._topology.flows).job
        (kind,) = rng.choices(tuple(KINDS), tuple(KINDS.values()))
        match kind:
            case "cut":
                if rng.random() < 0.5:
                    # most writes are small: headers, and what is said before and after a stream
                    count = rng.randint(0, rng.choice((8, 60, 400)))
                    return Event(at=at, kind=kind, name=job, count=count, calls=rng.randint(1, 120))
                count = rng.randint(1, rng.choice((3_000, size)))
                return Event(at=at, kind=kind, name=job, count=count)
            case "down" | "silence":
                count = rng.choice((1, 30, 900, 5_000))
                return Event(at=at, kind=kind, name=job, count=count, moved=self._moved())
            case "slow":
                rate = rng.choice((20_000, 200_000))
                count = rng.choice((700, 5_000))
                return Event(
                    at=at, kind=kind, name=job, count=count, rate=rate, moved=self._moved()
                )
            case "kill":
                count = rng.choice((1, 700, 3_000))
                return self._at_a_moment(Event(at=at, kind=kind, host=host, count=count))
            case "before" | "during" | "after":
                return self._of_a_command(at, kind)
            case "stop":
                host = rng.choice(self._topology.flows).sender
                count = rng.randint(1, rng.choice((1_000, size)))
                return Event(at=at, kind=kind, host=host, name="open_send", count=count)
            case "full":
                host = rng.choice(self._topology.flows).receiver
                return Event(at=at, kind=kind, host=host, count=rng.randint(1, size))
            case "clock":
                count = rng.choice((-1, 1)) * rng.choice((3, 400, 5_000))
                return Event(at=at, kind=kind, host=host, count=count)
            case _:
                event = self._by_an_admin(at, kind)
                return self._at_a_moment(event) if rng.random() < 0.6 else event

    def _of_a_command(self, at: float, kind: str) -> Event:
        rng = self._rng
        flow = rng.choice(self._topology.flows)
        role = rng.choice(("sender", "receiver"))
        drawn = {"before": BEFORE, "during": DURING, "after": AFTER}[kind][role]
        (name,) = rng.choices(tuple(drawn), tuple(drawn.values()))
        host = flow.sender if role == "sender" else flow.receiver
        return Event(at=0.0 if name in _AT_FIRST else at, kind=kind, host=host, name=name)

    def _at_a_moment(self, event: Event) -> Event:
        """While something is done: often while something streams, which takes little of a cycle."""
        rng = self._rng
        match rng.choice(("calls", "steps", "opening", "moved", "moved")):
            case "calls":
                return replace(event, calls=rng.randint(1, 80))
            case "steps":
                return replace(event, steps=rng.randint(1, STEPS))
            case "opening":
                return replace(event, opening=True, calls=rng.randint(1, 40))
            case _:
                return replace(event, moved=self._moved())

    def _moved(self) -> int:
        """Bytes: of a small stream or a large one, of what is said or what is sent."""
        return self._rng.randint(1, self._rng.choice((1_000, self._size)))

    def _by_an_admin(self, at: float, kind: str) -> Event:
        rng = self._rng
        flow = rng.choice(self._topology.flows)
        name = f"{flow.sending}/{rng.choice(self._filesystems)}"
        if kind == "create":
            return Event(at=at, kind=kind, host=rng.choice(self._topology.written), name="tank/new")
        if kind in {"hold", "release", "take", "touch"} and rng.random() < 0.4:
            return Event(
                at=at,
                kind=kind,
                host=flow.receiver,
                name=flow.replica_of(name),
                count=rng.randint(0, 3),
            )
        if kind in {"rename", "remove"}:
            host = rng.choice(self._topology.written)
            return Event(at=at, kind=kind, host=host, name=f"tank/{rng.choice(self._filesystems)}")
        return Event(at=at, kind=kind, host=flow.sender, name=name, count=rng.randint(0, 3))
