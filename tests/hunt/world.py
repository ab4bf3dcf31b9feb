"""A scenario run: two daemons with the wire between, on pools in memory, and what goes wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from random import Random
from typing import Any

import structlog
import trio

from tests.hunt.invariants import Broken, check_at_rest, check_content
from tests.hunt.scenario import CHANGES, Event, Scenario
from zrepl_trio.config.load import parse_config
from zrepl_trio.errors import ConnectFailed, ZfsError
from zrepl_trio.jobs.base import Outcome as RunOutcome
from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.supervisor import RestartPolicy, Supervisor
from zrepl_trio.jobs.world import World
from zrepl_trio.simulate.determinism import SimulatedClock, run_deterministically
from zrepl_trio.simulate.hosts import SimulatedHost
from zrepl_trio.simulate.joining import Join, join_all
from zrepl_trio.simulate.network import Network
from zrepl_trio.simulate.wire import Passing
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["FaultyZfs", "Outcome", "run_scenario"]

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Outcome:
    """`broken` is empty when all held; `digest` stands for all that happened."""

    scenario: Scenario
    broken: list[str] = field(default_factory=list)
    digest: str = ""
    runs: int = 0


def run_scenario(scenario: Scenario) -> Outcome:
    """The same scenario, the same outcome."""
    hunt = _Hunt(scenario)
    try:
        run_deterministically(hunt.run, seed=scenario.seed)
    except* Broken as group:
        hunt.outcome.broken += [str(leaf) for leaf in _leaves(group)]
    hunt.outcome.digest = hashlib.sha256("\n".join(hunt.noted).encode()).hexdigest()
    return hunt.outcome


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found


class FaultyZfs(MemoryZfs):
    """Calls fail as told; all of them while the daemon is `dead`, whatever it still tries."""

    def __init__(self, host: str, *, seed: int, clock: SimulatedClock) -> None:
        super().__init__(rng=Random(f"{seed}:{host}"), clock=clock)
        self.host = host
        self.dead = False
        self.fails_before: set[str] = set()
        self.fails_after: set[str] = set()
        self.before = self._fault

    async def _fault(self, call: str, dataset: str) -> None:
        if self.dead:
            raise ZfsError(f"{call}: the daemon is gone", dataset=dataset)
        if call in self.fails_before:
            self.fails_before.discard(call)
            raise ZfsError(f"cannot {call} '{dataset}': I/O error", dataset=dataset)


def _failing_after(name: str) -> Any:
    original = getattr(MemoryZfs, name)

    @wraps(original)
    async def call(self: FaultyZfs, *args: Any, **kwargs: Any) -> Any:
        result = await original(self, *args, **kwargs)
        if name in self.fails_after:
            self.fails_after.discard(name)
            raise ZfsError(f"{name}: failed at its very end", dataset="")
        return result

    return call


for _name in CHANGES:
    setattr(FaultyZfs, _name, _failing_after(_name))


class _FaultyNetwork(Network):
    """One link, that is cut, down or silent as told."""

    def __init__(self, joins: list[Join]) -> None:
        super().__init__(joins, {}, wire=True)
        self.cut_at: int | None = None
        self.down_until = 0.0
        self.silent_until = 0.0

    def check(self, join: Join) -> None:
        if trio.current_time() < self.down_until:
            raise ConnectFailed(f"the link from {join.host} to {join.peer} is down")

    def link(self, join: Join) -> Passing:
        gone = 0
        cut = False

        async def passing(count: int) -> None:
            nonlocal gone, cut
            self.check(join)
            if trio.current_time() < self.silent_until:
                await trio.sleep_until(self.silent_until)
            gone += count
            if self.cut_at is not None and gone >= self.cut_at:
                self.cut_at, cut = None, True
            if cut:
                raise ConnectFailed("the link was cut")

        return passing


class _Host:
    def __init__(self, name: str, config: SimulatedHost, zfs: FaultyZfs) -> None:
        self.name = name
        self.config = config
        self.zfs = zfs
        self.scope = trio.CancelScope()
        self.supervisor: Supervisor | None = None
        self.up_at = 0.0


class _Hunt:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.outcome = Outcome(scenario)
        self.noted: list[str] = []
        self.clock = SimulatedClock(START)
        configs = [
            SimulatedHost(name=name, path=name, config=parse_config(text).config, notes=())
            for name, text in scenario.configs().items()
        ]
        self.network = _FaultyNetwork(join_all(configs))
        self.hosts: Mapping[str, _Host] = {}
        self._configs = configs
        self._rng = Random(scenario.seed)
        self.contents: dict[int, Mapping[str, bytes]] = {}
        self.disturbed: set[str] = set()

    async def run(self) -> None:
        self.hosts = {
            config.name: _Host(
                config.name,
                config,
                FaultyZfs(config.name, seed=self.scenario.seed, clock=self.clock),
            )
            for config in self._configs
        }
        app, backup = self.hosts["app"].zfs, self.hosts["backup"].zfs
        app.add_pool("tank")
        backup.add_pool("storage")
        backup.add_filesystem("storage/backups")
        for name in self.scenario.filesystems:
            app.add_filesystem(f"tank/{name}")
        try:
            async with trio.open_nursery() as nursery:
                for host in self.hosts.values():
                    nursery.start_soon(self._keep_up, host)
                nursery.start_soon(self._write)
                nursery.start_soon(self._disturb)
                await trio.sleep_until(self.scenario.lasts_s - 5)
                self._judge()
                nursery.cancel_scope.cancel()
        finally:
            for host in self.hosts.values():
                self.noted += [f"{host.name} {call}" for call in host.zfs.calls]

    async def _keep_up(self, host: _Host) -> None:
        structlog.contextvars.bind_contextvars(host=host.name)
        while True:
            await trio.sleep_until(host.up_at)
            host.zfs.dead = False
            host.scope = trio.CancelScope()
            with host.scope:
                world = World(
                    clock=self.clock,
                    zfs=host.zfs,
                    links=self.network.links_of(host.name),
                    locks=False,
                )
                jobs = build_jobs(host.config.config, world)
                host.supervisor = Supervisor(jobs, clock=self.clock, policy=RestartPolicy())
                await host.supervisor.run()

    async def _write(self) -> None:
        """A little before each cycle."""
        app = self.hosts["app"].zfs
        while True:
            for name in self.scenario.filesystems:
                if app.world.get(f"tank/{name}") is not None:
                    data = self._rng.randbytes(self._rng.randint(1, self.scenario.size))
                    app.write(f"tank/{name}", {f"file{self._rng.randint(0, 3)}": data})
            await trio.sleep(600)

    async def _disturb(self) -> None:
        for event in self.scenario.events:
            await trio.sleep_until(event.at)
            self._note_contents()
            self.noted.append(str(event))
            await self._do(event)

    async def _do(self, event: Event) -> None:
        now = trio.current_time()
        match event.kind:
            case "cut":
                self.network.cut_at = event.count
            case "down":
                self.network.down_until = now + event.count
            case "silence":
                self.network.silent_until = now + event.count
            case "kill":
                host = self.hosts[event.host]
                host.zfs.dead = True
                host.up_at = now + event.count
                host.scope.cancel()
            case "before":
                self.hosts[event.host].zfs.fails_before.add(event.name)
            case "after":
                self.hosts[event.host].zfs.fails_after.add(event.name)
            case "stop":
                self.hosts["app"].zfs.send_limit[f"tank/{self.scenario.filesystems[0]}"] = (
                    event.count
                )
            case _:
                await self._meddle(event)

    async def _meddle(self, event: Event) -> None:
        """What an admin does by hand; it is noted whose base may be gone."""
        if event.name not in self.scenario.filesystems:
            return
        app, name = self.hosts["app"].zfs, f"tank/{event.name}"
        dataset = app.world.get(name)
        if dataset is None:
            return
        path = DatasetPath.parse(name)
        snapshots = list(dataset.snapshots)
        match event.kind:
            case "destroy" if len(snapshots) > event.count:
                victim = snapshots[-1 - event.count]
                if not dataset.snapshots[victim].holds:
                    del dataset.snapshots[victim]
                    self.disturbed.add(str(path))
            case "release":
                for snapshot in dataset.snapshots.values():
                    snapshot.holds.clear()
                self.disturbed.add(str(path))
            case "unmark":
                dataset.bookmarks.clear()
                self.disturbed.add(str(path))
            case _:
                pass

    def _note_contents(self) -> None:
        app = self.hosts["app"].zfs
        for name in self.scenario.filesystems:
            dataset = app.world.get(f"tank/{name}")
            for snapshot in dataset.snapshots.values() if dataset is not None else ():
                if snapshot.guid not in self.contents:
                    self.contents[snapshot.guid] = dict(app.read(f"tank/{name}@{snapshot.name}"))

    def _judge(self) -> None:
        self._note_contents()
        app, backup = self.hosts["app"], self.hosts["backup"]
        client = "client/" if self.scenario.pushes else ""
        check_content(backup.zfs, self.contents)
        for host in self.hosts.values():
            assert host.supervisor is not None
            for status in host.supervisor.status():
                if status.invocation is not None:
                    self.outcome.runs = max(self.outcome.runs, status.invocation.number)
                    self.noted.append(f"{status.name} {status.invocation}")
        for name in self.scenario.filesystems:
            check_at_rest(
                app.zfs,
                backup.zfs,
                f"tank/{name}",
                f"storage/backups/{client}tank/{name}",
                now=self.clock.now().timestamp(),
                disturbed=f"tank/{name}" in self.disturbed,
            )
        for host in self.hosts.values():
            for status in host.supervisor.status() if host.supervisor else ():
                run = status.last_run
                if run is None or run.outcome is RunOutcome.DONE or self.disturbed:
                    continue
                raise Broken(f"job {status.name} still fails: {run.error}")
