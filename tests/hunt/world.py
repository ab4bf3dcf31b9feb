"""A scenario run: the daemons of all hosts with the wire between, on pools in memory, and what goes wrong."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, cast
from unittest import mock

import structlog
import trio

from tests.hunt.disturbing import DAEMON_OF, FULL_FOR_S, Disturber, Host, SetClock
from tests.hunt.evidence import Broken
from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.invariants import Judge
from tests.hunt.network import FaultyNetwork
from tests.hunt.scenario import CYCLE_S, FAULTY_S, LASTS_S, Event, Scenario
from zrepl_trio.clock import WallClock
from zrepl_trio.config.load import parse_config
from zrepl_trio.endpoint.model import Filesystem
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import leaves
from zrepl_trio.jobs import build
from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.supervisor import RestartPolicy, Supervisor
from zrepl_trio.jobs.world import World
from zrepl_trio.logs.events import Dispatcher, Outlet, logging_to
from zrepl_trio.logs.lines import Entry, Level
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.simulate.determinism import SimulatedClock, run_deterministically
from zrepl_trio.simulate.hosts import SimulatedHost
from zrepl_trio.simulate.joining import join_all
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["START", "Outcome", "run_scenario"]

_EARLY_S = CYCLE_S / 2
"""All daemons are up by then, and nothing has gone wrong yet."""

_MOST_STEPS = 200_000
"""Far more than all tasks together take in one moment."""

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Outcome:
    """`broken` is empty when all held; `digest` stands for all that happened; `runs` are those of the job that
    had the fewest."""

    scenario: Scenario
    broken: list[str] = field(default_factory=list)
    digest: str = ""
    runs: int = 0
    calls: frozenset[str] = frozenset()
    """The zfs commands that were called, by name."""
    struck: frozenset[Event] = frozenset()
    """The events that had an effect."""


def run_scenario(scenario: Scenario) -> Outcome:
    """The same scenario, the same outcome."""
    hunt = _Hunt(scenario)
    outcome = Outcome(scenario)
    with hunt.logging(), mock.patch.object(build, "serve_connection", hunt.serve):
        try:
            run_deterministically(hunt.run, seed=scenario.seed)
            if not hunt.judge.broken:
                hunt.check_ended()
        except Broken as broken:
            outcome.broken.append(str(broken))
        except Exception as error:  # noqa: BLE001 - told with its seed
            found = leaves(error) if isinstance(error, ExceptionGroup) else [error]
            outcome.broken += [str(each) for each in found if isinstance(each, Broken)]
            if not outcome.broken:
                told = "".join(traceback.format_exception(error))
                outcome.broken.append(f"an error that nobody expected: {told}")
    outcome.broken += [*hunt.judge.broken, *hunt.bugs]
    outcome.digest = hashlib.sha256("\n".join(hunt.noted).encode()).hexdigest()
    outcome.runs = min(map(len, hunt.judge.runs.values()))
    outcome.calls = hunt.calls
    outcome.struck = hunt.struck
    return outcome


class _Seen:
    """An endpoint, whose answers somebody is told of."""

    def __init__(self, endpoint: Endpoint, seen: Callable[[Collection[str]], None]) -> None:
        self._endpoint = endpoint
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._endpoint, name)

    async def list_filesystems(self) -> list[Filesystem]:
        listed = await self._endpoint.list_filesystems()
        self._seen([each.path for each in listed])
        return listed

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        listed = await self._endpoint.list_versions(filesystem)
        self._seen([filesystem])
        return listed


class _Standstill(trio.abc.Instrument):
    """Ends a run in which tasks go on and on, and no time passes."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._at = -1.0
        self._steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        now = trio.current_time()
        if now != self._at:
            self._at, self._steps = now, 0
        self._steps += 1
        if self._steps == _MOST_STEPS:
            self._judge.broken.append(f"at {now:.1f} s: {task.name} goes on and on, without an end")
            self._judge.fallen.set()


class _Hunt:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.noted: list[str] = []
        self.bugs: list[str] = []
        self.judge = Judge(scenario)
        self._rng = Random(scenario.seed)
        steady = SimulatedClock(START)
        self._hosts: dict[str, Host] = {}
        configs = []
        for name, text in scenario.topology.configs.items():
            config = parse_config(text).config
            configs.append(SimulatedHost(name=name, path=name, config=config, notes=()))
            clock: WallClock = steady if scenario.steady else SetClock(START)
            zfs = FaultyZfs(
                name, seed=scenario.seed, clock=clock, witness=self.judge, bulk=scenario.bulk
            )
            self._hosts[name] = Host(name, config, zfs, clock)
        self.judge.hosts.update({name: host.zfs for name, host in self._hosts.items()})
        self._network = FaultyNetwork(join_all(configs))
        self._disturber = Disturber(self._hosts, self._network, self.judge, self._rng)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """What the daemons log is looked through for what nobody expected."""

        def encode(entry: Entry) -> bytes:
            if "traceback" in entry.fields:
                self.bugs.append(f"an error that nobody expected: {entry.msg} {entry.fields}")
            return b""

        dispatcher = Dispatcher(SimulatedClock(START))
        dispatcher.add(
            Outlet(kind="hunt", level=Level.ERROR, encode=encode, put=lambda _line: True)
        )
        with logging_to(dispatcher):
            yield

    async def serve(self, connection: Connection, endpoint: Endpoint, **options: Any) -> None:
        """In the place of the product's own, to see what clients are told."""
        told = structlog.contextvars.get_contextvars()
        seen = partial(self.judge.seen, told["host"], told["on_behalf_of"])
        await serve_connection(connection, cast("Endpoint", _Seen(endpoint, seen)), **options)

    @property
    def calls(self) -> frozenset[str]:
        every = (call for host in self._hosts.values() for call in host.zfs.calls)
        return frozenset(call.partition(" ")[0] for call in every)

    @property
    def struck(self) -> frozenset[Event]:
        return frozenset(self._disturber.struck)

    async def run(self) -> None:
        self._lay_out()
        try:
            async with trio.open_nursery() as nursery:
                for host in self._hosts.values():
                    nursery.start_soon(self._keep_up, host)
                nursery.start_soon(self._write)
                nursery.start_soon(self._disturb, nursery)
                trio.lowlevel.add_instrument(_Standstill(self.judge))
                with trio.move_on_after(_EARLY_S):
                    await self.judge.fallen.wait()
                early = self._tasks()
                with trio.move_on_at(LASTS_S):
                    await self.judge.fallen.wait()
                if not self.judge.broken:
                    self.judge.check_at_rest()
                    self._check_tasks(early)
                nursery.cancel_scope.cancel()
        finally:
            for host in self._hosts.values():
                self.noted += [f"{host.name} {call}" for call in host.zfs.calls]

    def _tasks(self) -> Counter[str]:
        """How many tasks each host's daemon has."""
        count: Counter[str] = Counter()
        left = [trio.lowlevel.current_root_task()]
        while left:
            task = left.pop()
            if task is None:
                continue
            host = task.context.get(DAEMON_OF)
            if host is not None:
                count[host.name] += 1
            left += [each for nursery in task.child_nurseries for each in nursery.child_tasks]
        return count

    def _check_tasks(self, early: Counter[str]) -> None:
        """4: a daemon at rest has as many tasks as it had between its first two cycles, but for that of a
        connection which may end a while later."""
        now = self._tasks()
        if any(now[host] > early[host] + 1 for host in now):
            raise Broken(
                f"the daemons have {dict(now)} tasks, and had {dict(early)} at the beginning"
            )

    def check_ended(self) -> None:
        """4: nothing of the daemons is left once they have ended."""
        for host in self._hosts.values():
            for each in host.zfs.in_use():
                raise Broken(f"{host.name} has ended and left {each}")
        if self._network.doors:
            raise Broken(f"{list(self._network.doors)} are served by nobody")

    def _lay_out(self) -> None:
        for host in self._hosts.values():
            receives = [each for each in self.scenario.topology.flows if each.receiver == host.name]
            if host.name in self.scenario.topology.written:
                host.zfs.add_pool("tank")
                for name in self.scenario.filesystems:
                    above = "/" in name
                    own = {"encryption": "on"} if self.scenario.topology.raw and not above else {}
                    host.zfs.add_filesystem(f"tank/{name}", own)
            if receives:
                root = "vault" if receives[0].place == "vault" else "storage/backups"
                host.zfs.add_pool(root.partition("/")[0])
                if "/" in root:
                    encrypted = self.scenario.encrypted and host.name == "backup"
                    host.zfs.add_filesystem(root, {"encryption": "on"} if encrypted else {})

    async def _keep_up(self, host: Host) -> None:
        structlog.contextvars.bind_contextvars(host=host.name)
        DAEMON_OF.set(host)
        while True:
            await trio.sleep_until(host.up_at)
            host.zfs.dead = False
            host.scope = trio.CancelScope()
            with host.scope:
                world = World(
                    clock=host.clock,
                    zfs=host.zfs,
                    watch=self.judge,
                    links=self._network.links_of(host.name),
                    locks=False,
                )
                jobs = build_jobs(host.config, world)
                await Supervisor(jobs, clock=host.clock, policy=RestartPolicy()).run()

    async def _write(self) -> None:
        """A little before each cycle."""
        while True:
            for host in self.scenario.topology.written:
                zfs = self._hosts[host].zfs
                for dataset in zfs.world.all():
                    if dataset.name.startswith("tank/") and self._rng.random() < 0.9:
                        data = self._rng.randbytes(self._rng.randint(1, self.scenario.size))
                        zfs.write(dataset.name, {f"file{self._rng.randint(0, 3)}": data})
                        self.judge.note_written(host, dataset.name)
            await trio.sleep(CYCLE_S)
            self.judge.check_duration()

    async def _disturb(self, nursery: trio.Nursery) -> None:
        for event in self.scenario.events:
            await trio.sleep_until(event.at)
            self.noted.append(str(event))
            self._disturber.do(event)
            if event.kind == "full":
                nursery.start_soon(self._relieve, event)
        await trio.sleep_until(FAULTY_S)
        self._disturber.calm_down()

    async def _relieve(self, event: Event) -> None:
        await trio.sleep_until(min(event.at + FULL_FOR_S, FAULTY_S))
        self._disturber.relieve(event)
