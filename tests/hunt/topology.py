"""Who replicates what to whom: the hosts of a scenario, their configs, and each job's flow. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from tests.hunt.rules import Rule, rules_text

__all__ = ["TOPOLOGIES", "Flow", "Topology", "topology_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What an active job moves. All that is below `sending` on `sender` ends up below `place` on `receiver`,
    under its name without `strips`. `sending_job` is in the names of cursors and step holds, `receiving_job` in that of
    the hold on what came last.
    """

    job: str
    active: str
    sender: str
    sending: str
    receiver: str
    place: str
    sending_job: str
    receiving_job: str
    initial: str
    incremental: str
    keep_sender: tuple[Rule, ...]
    keep_receiver: tuple[Rule, ...]
    foreign: str
    follows: bool
    first: str = "most_recent"
    placeholders: str = "inherit"
    divergence: str = "fail"
    floor: tuple[Rule, ...] = ()
    sender_floor: tuple[Rule, ...] = ()
    strips: str = ""

    @property
    def root(self) -> str:
        """What is its own on the receiver."""
        return self.place.removesuffix(f"/{_TARGET}") if self.strips else self.place

    def replica_of(self, dataset: str) -> str:
        return f"{self.place}/{dataset.removeprefix(self.strips)}"

    def original_of(self, replica: str) -> str | None:
        """None for what is no replica of its."""
        if not replica.startswith(f"{self.place}/"):
            return None
        original = self.strips + replica.removeprefix(f"{self.place}/")
        return original if self.sends(original) else None

    def sends(self, dataset: str) -> bool:
        return dataset.startswith(f"{self.sending}/")

    @property
    def promises(self) -> bool:
        """Whether the next increment is possible whatever happens."""
        return "guarantee_nothing" not in {self.initial, self.incremental}

    @property
    def resumes(self) -> bool:
        """Whether each step's bytes are never sent twice."""
        return self.initial == self.incremental == "guarantee_resumability"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """`configs` by host; `written` are the hosts with data of their own, in `tank`, encrypted where it is sent `raw`."""

    name: str
    configs: dict[str, str]
    flows: tuple[Flow, ...]
    written: tuple[str, ...]
    raw: bool = False

    @property
    def lazy(self) -> set[str]:
        """The hosts that take no snapshot of what was not written to."""
        return {host for host, text in self.configs.items() if "skip_unchanged: true" in text}


_TARGET = "data"
"""Where replicas go instead of `tank`, in some."""
_GUARANTEES = {"guarantee_resumability": 6, "guarantee_incremental": 3, "guarantee_nothing": 0.7}
_ALL = Rule(type="regex", regex=".*")
_SENDER_RULES = (
    (_ALL,),
    (Rule(type="not_replicated"), Rule(type="last_n", count=2)),
    (Rule(type="not_replicated", keep_snapshot_at_cursor=False),),
    (Rule(type="not_replicated", max_count=2),),
    (Rule(type="not_replicated", max_age=45),),
    (Rule(type="last_n", count=1),),
    (Rule(type="not_replicated"), Rule(type="last_n", count=2, regex="^zrepl_")),
    (
        Rule(type="not_replicated"),
        Rule(type="grid", grid="1x20m(keep=all) | 3x1h", regex="^zrepl_"),
    ),
    (Rule(type="not_replicated"), Rule(type="regex", regex="^zrepl_", negate=True)),
)
_WITHOUT_CURSOR = tuple(
    rules for rules in _SENDER_RULES if all(rule.type != "not_replicated" for rule in rules)
)
_RECEIVER_RULES = (
    (_ALL,),
    (Rule(type="last_n", count=3),),
    (Rule(type="grid", grid="1x30m(keep=all) | 4x1h", regex="^zrepl_"),),
    (Rule(type="calendar", hourly=4),),
    (Rule(type="calendar", hourly=2, daily=2),),
    (Rule(type="regex", regex="nothing"),),
)
_FLOORS = ((), (), (Rule(type="last_n", count=5),), (Rule(type="calendar", hourly=3),))


class _Maker:
    """Draws what a topology's jobs have, and writes their configs."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.copies = True
        """Whether replicas may be kept beside new ones; a chain would send those on."""
        self.raw = rng.random() < 0.1
        self.strips = rng.random() < 0.15
        self.placeholders = rng.choice((*["inherit"] * 9, "off"))

    def guarantee(self) -> str:
        return self._rng.choices(tuple(_GUARANTEES), tuple(_GUARANTEES.values()))[0]

    def flow(
        self, *, job: str, active: str, sender: str, sending: str, receiver: str, place: str,
        sending_job: str, receiving_job: str, floor: tuple[Rule, ...] = (), sender_floor: tuple[Rule, ...] = (),
    ) -> Flow:  # fmt: skip
        rng = self._rng
        strips = self.strips and sending == "tank"
        incremental = self.guarantee()
        keep_sender = rng.choice(_SENDER_RULES)
        if incremental == "guarantee_nothing":
            keep_sender = rng.choice(_WITHOUT_CURSOR)  # there never is one
        return Flow(
            job=job,
            active=active,
            sender=sender,
            sending=sending,
            receiver=receiver,
            place=f"{place}/{_TARGET}" if strips else place,
            strips="tank/" if strips else "",
            sending_job=sending_job,
            receiving_job=receiving_job,
            initial=self.guarantee(),
            incremental=incremental,
            first=rng.choice(("most_recent", "most_recent", "most_recent", "all")),
            placeholders=self.placeholders,
            divergence=rng.choice(
                (*["fail"] * 4, "rollback", "keep_copy" if self.copies else "rollback")
            ),
            keep_sender=keep_sender,
            keep_receiver=rng.choice(_RECEIVER_RULES),
            foreign=rng.choice(("destroy", "destroy", "keep")),
            follows=rng.random() < 0.5,
            floor=floor,
            sender_floor=sender_floor,
        )

    def floor(self) -> tuple[Rule, ...]:
        return self._rng.choice(_FLOORS)

    def sending(self, below: str, *, snapshots: bool, cron: bool = False) -> str:
        """With `cron`, snapshots may be taken by one: where these do not wake the job."""
        extra = self._rng.choice(("", "", ", atomic: true", ", skip_unchanged: true"))
        when = "type: periodic, interval: 10m"
        if cron and self._rng.random() < 0.25:
            when = 'type: cron, cron: "*/10 * * * *"'
        taken = f"{{{when}, prefix: zrepl_{extra}}}"
        send = "\n  send: {encrypted: true}" if self.raw else ""
        return f"""
  filesystems: {{"{below}<": true, "{below}": false}}{send}
  snapshotting: {taken if snapshots else "{type: manual}"}
"""

    def active(self, flow: Flow, *, port: int) -> str:
        peer = flow.receiver if flow.active == flow.sender else flow.sender
        return f"""
  replication:
    protection: {{initial: {flow.initial}, incremental: {flow.incremental}}}
    concurrency: {{steps: {self._rng.choice((1, 2))}, size_estimates: {self._rng.choice((1, 4))}}}
  conflict_resolution:
    initial_replication: {flow.first}
    divergence: {flow.divergence}
    renames: {"follow" if flow.follows else "send_anew"}
  pruning:
    foreign: {flow.foreign}
    keep_sender: {rules_text(flow.keep_sender)}
    keep_receiver: {rules_text(flow.keep_receiver)}
  connect: {{type: tcp, address: "{peer}.example.com:{port}"}}
"""

    def serve(self, *clients: str, port: int, floor: tuple[Rule, ...] = ()) -> str:
        known = ", ".join(
            f'"10.0.0.{number}": "{client}"' for number, client in enumerate(clients, 1)
        )
        pruning = f"  pruning: {{floor: {rules_text(floor)}}}\n" if floor else ""
        return f'  serve: {{type: tcp, listen: ":{port}", clients: {{{known}}}}}\n{pruning}'

    def receiving(self, root: str) -> str:
        target = f', target: {{"tank<": {_TARGET}}}' if self.strips and root != "vault" else ""
        encryption = f'placeholder: {{encryption: "{self.placeholders}"}}'
        return f"\n  root_fs: {root}\n  recv: {{{encryption}{target}}}\n"


def _pull(maker: _Maker) -> Topology:
    floor = maker.floor()
    flow = maker.flow(
        job="pull", active="backup", sender="app", sending="tank", receiver="backup",
        place="storage/backups", sending_job="source", receiving_job="pull", sender_floor=floor,
    )  # fmt: skip
    source = maker.sending("tank", snapshots=True, cron=True)
    source += maker.serve("backup", port=8888, floor=floor)
    pull = maker.receiving("storage/backups") + maker.active(flow, port=8888)
    configs = {
        "app": f"jobs:\n- name: source\n  type: source{source}",
        "backup": f"jobs:\n- name: pull\n  type: pull\n  interval: 10m{pull}",
    }
    return Topology(name="pull", configs=configs, flows=(flow,), written=("app",), raw=maker.raw)


def _fan_out(maker: _Maker) -> Topology:
    flows = tuple(
        maker.flow(
            job=f"pull_{host}", active=host, sender="app", sending="tank", receiver=host,
            place="storage/backups", sending_job=f"source_{host}",
            receiving_job=f"pull_{host}", sender_floor=maker.floor(),
        )
        for host in ("backup", "vault")
    )  # fmt: skip
    configs = {"app": "jobs:"}
    # a job each: cursors are a job's, whoever replicates
    for port, flow in enumerate(flows, 8888):
        source = maker.sending("tank", snapshots=port == 8888, cron=True)
        source += maker.serve(flow.active, port=port, floor=flow.sender_floor)
        configs["app"] += f"\n- name: {flow.sending_job}\n  type: source{source}"
        pull = maker.receiving("storage/backups") + maker.active(flow, port=port)
        configs[flow.active] = f"jobs:\n- name: {flow.job}\n  type: pull\n  interval: 10m{pull}"
    return Topology(name="fan-out", configs=configs, flows=flows, written=("app",), raw=maker.raw)


def _shared(maker: _Maker) -> Topology:
    """Two pulls of one source job: its cursors and holds cannot tell whose they are, so pruning must leave what the other
    needs, and here leaves everything."""
    flows = tuple(
        replace(
            maker.flow(
                job=f"pull_{host}", active=host, sender="app", sending="tank", receiver=host,
                place="storage/backups", sending_job="source", receiving_job=f"pull_{host}",
            ),
            keep_sender=(_ALL,),
        )
        for host in ("backup", "vault")
    )  # fmt: skip
    source = maker.sending("tank", snapshots=True, cron=True)
    source += maker.serve("backup", "vault", port=8888)
    configs = {"app": f"jobs:\n- name: source\n  type: source{source}"}
    for flow in flows:
        pull = maker.receiving("storage/backups") + maker.active(flow, port=8888)
        configs[flow.active] = f"jobs:\n- name: {flow.job}\n  type: pull\n  interval: 10m{pull}"
    return Topology(name="shared", configs=configs, flows=flows, written=("app",), raw=maker.raw)


def _pushes(maker: _Maker, *hosts: str) -> tuple[dict[str, str], tuple[Flow, ...]]:
    """Hosts that push to one sink, on `backup`."""
    floor = maker.floor()
    flows = tuple(
        maker.flow(
            job=f"push_{host}", active=host, sender=host, sending="tank", receiver="backup",
            place=f"storage/backups/{host}", sending_job=f"push_{host}",
            receiving_job="sink", floor=floor,
        )
        for host in hosts
    )  # fmt: skip
    configs = {}
    for flow in flows:
        push = maker.sending("tank", snapshots=True) + maker.active(flow, port=8888)
        configs[flow.active] = f"jobs:\n- name: {flow.job}\n  type: push{push}"
    sink = maker.receiving("storage/backups") + maker.serve(*hosts, port=8888, floor=floor)
    configs["backup"] = f"jobs:\n- name: sink\n  type: sink{sink}"
    return configs, flows


def _push(maker: _Maker) -> Topology:
    configs, flows = _pushes(maker, "app")
    return Topology(name="push", configs=configs, flows=flows, written=("app",), raw=maker.raw)


def _fan_in(maker: _Maker) -> Topology:
    configs, flows = _pushes(maker, "app", "web")
    return Topology(
        name="fan-in", configs=configs, flows=flows, written=("app", "web"), raw=maker.raw
    )


def _chain(maker: _Maker) -> Topology:
    maker.copies = False
    configs, flows = _pushes(maker, "app")
    below = f"storage/backups/app/{_TARGET if maker.strips else 'tank'}"
    onward = maker.flow(
        job="onward", active="far", sender="backup", sending=below, receiver="far", place="vault",
        sending_job="source",
        receiving_job="onward", sender_floor=maker.floor(),
    )  # fmt: skip
    source = maker.sending(below, snapshots=False)
    source += maker.serve("far", port=8889, floor=onward.sender_floor)
    configs["backup"] += f"\n- name: source\n  type: source{source}"
    pull = maker.receiving("vault") + maker.active(onward, port=8889)
    configs["far"] = f"jobs:\n- name: onward\n  type: pull\n  interval: 10m{pull}"
    return Topology(
        name="chain", configs=configs, flows=(*flows, onward), written=("app",), raw=maker.raw
    )


TOPOLOGIES = {
    "pull": _pull,
    "push": _push,
    "fan-out": _fan_out,
    "fan-in": _fan_in,
    "chain": _chain,
    "shared": _shared,
}


def topology_of(name: str, rng: Random) -> Topology:
    """Of that name (see TOPOLOGIES), with rules and guarantees as `rng` has them."""
    return TOPOLOGIES[name](_Maker(rng))
