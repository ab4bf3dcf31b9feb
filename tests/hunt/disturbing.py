"""What each event of a scenario does to its hosts."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial
from random import Random

import trio

from tests.hunt.faults import Fault
from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.invariants import Judge
from tests.hunt.moments import AtStep
from tests.hunt.network import FaultyNetwork
from tests.hunt.scenario import FAULTY_S, Event
from zrepl_trio.clock import WallClock
from zrepl_trio.config.jobs import PushJob, SourceJob
from zrepl_trio.config.model import Config
from zrepl_trio.emulate.model import Dataset
from zrepl_trio.emulate.renaming import rename
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["DAEMON_OF", "Disturber", "Host", "SetClock", "take"]

DAEMON_OF: ContextVar[Host] = ContextVar("DAEMON_OF")
"""The host whose daemon a task belongs to."""

FULL_FOR_S = 3600.0
"""How long a pool stays full before somebody makes room."""


class SetClock(WallClock):
    """A clock that is set now and then."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self.offset_s = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=trio.current_time() + self.offset_s)


class Host:
    """One host: its config, its pools, and its daemon, which runs in `scope` and starts at `up_at`."""

    def __init__(self, name: str, config: Config, zfs: FaultyZfs, clock: WallClock) -> None:
        self.name = name
        self.config = config
        self.zfs = zfs
        self.clock = clock
        self.scope = trio.CancelScope()
        self.up_at = 0.0

    def kill(self, *, down_for: float) -> None:
        """Its daemon is gone at once, wherever it is."""
        self.zfs.dead = True
        self.up_at = trio.current_time() + down_for
        self.scope.cancel()


class Disturber:
    """Does what events say."""

    def __init__(
        self, hosts: dict[str, Host], network: FaultyNetwork, judge: Judge, rng: Random
    ) -> None:
        self._hosts = hosts
        self._network = network
        self._judge = judge
        self._rng = rng
        self._at_steps: set[AtStep] = set()
        self.struck: set[Event] = set()
        """What has had an effect."""

    def do(self, event: Event) -> None:
        """What happens in no time."""
        match event.kind:
            case "cut":
                struck = partial(self.struck.add, event)
                self._network.cut(event.name, struck, at=event.count, writes=event.calls)
            case "down" | "silence" | "slow":
                trouble = partial(self._trouble, event)
                self._network.wait(event.name, trouble, moved=event.moved)
            case "clock":
                self.struck.add(event)
                clock = self._hosts[event.host].clock
                assert isinstance(clock, SetClock)
                clock.offset_s += event.count
            case "kill" | "before" | "during" | "after" | "stop" | "full":
                self._break(self._hosts[event.host], event)
            case _:
                host = self._hosts[event.host]
                self._wait(host, event, lambda: self._meddle(host, event))

    def _trouble(self, event: Event) -> None:
        """A link's. It is over when the quiet cycles begin."""
        self.struck.add(event)
        seconds = max(1.0, min(event.count, FAULTY_S - trio.current_time()))
        match event.kind:
            case "down":
                self._network.down(event.name, seconds=seconds)
                self._judge.patience(event.name, seconds)
            case "silence":
                self._network.silence(event.name, seconds=seconds)
            case "slow":
                self._network.slow(event.name, seconds=seconds, rate=event.rate)
                self._judge.patience(event.name, seconds)
            case _:
                raise AssertionError(event.kind)

    def _break(self, host: Host, event: Event) -> None:
        zfs = host.zfs
        match event.kind:
            case "kill":
                self._wait(host, event, lambda: _kill(host, event))
            case "before" | "during" | "after" | "stop":
                struck = partial(self.struck.add, event)
                zfs.faults.add(Fault(event.kind, event.name, struck, event.count))
            case "full":
                zfs.full.append(partial(self.struck.add, event))
                for pool in zfs.world.pools.values():
                    used = zfs.world.used(pool.datasets[pool.name])
                    pool.capacity = used + event.count
            case _:
                raise AssertionError(event.kind)

    def _wait(self, host: Host, event: Event, try_it: Callable[[], bool]) -> None:
        """Until the event's moment has come; it strikes whenever it can from then on. At once, where it waits for none."""
        moments = host.zfs.moments

        def strike() -> bool:
            struck = try_it()
            if struck:
                self.struck.add(event)
            return struck

        if not (event.waits or strike()):
            moments.wait(strike)
        if not event.waits:
            return
        if not event.steps:
            moments.wait(strike, calls=event.calls, opening=event.opening, moved=event.moved)
            return

        def step() -> None:
            self._at_steps.discard(at_step)
            if not strike():
                moments.wait(strike)

        at_step = AtStep(
            event.steps, step, concerns=lambda task: task.context.get(DAEMON_OF) is host
        )
        self._at_steps.add(at_step)
        trio.lowlevel.add_instrument(at_step)

    def calm_down(self) -> None:
        """What has not gone wrong by now, never will."""
        for each in self._at_steps:
            trio.lowlevel.remove_instrument(each)
        self._network.mend()
        for host in self._hosts.values():
            host.zfs.mend()

    def relieve(self, event: Event) -> None:
        """Somebody mends it."""
        for pool in self._hosts[event.host].zfs.world.pools.values():
            pool.capacity = 1 << 50

    def _meddle(self, host: Host, event: Event) -> bool:
        """What an admin does by hand; False where there is nothing to do it to, or zfs refuses, so far."""
        zfs, name = host.zfs, event.name
        dataset = zfs.world.get(name)
        if event.kind == "create":
            if dataset is None:
                zfs.add_filesystem(name, {"encryption": "on"} if _sends_raw(host) else {})
            return dataset is None
        if dataset is None:
            return False
        match event.kind:
            case "hold":
                return self._hold(host, dataset, event)
            case "destroy":
                return self._destroy(host, dataset, event)
            case "release":
                return self._release(host, dataset)
            case "unmark":
                return self._unmark(host, dataset)
            case "take" | "touch":
                return self._change(host, dataset, event)
            case "rename":
                if zfs.world.get(f"{name}-moved") is not None or _is_busy(zfs, dataset):
                    return False
                for each in zfs.world.below(name):
                    new = each.name.replace(name, f"{name}-moved", 1)
                    self._judge.renamed(host.name, each.name, new)
                rename(zfs.world, DatasetPath.parse(name), DatasetPath.parse(f"{name}-moved"))
            case "remove":
                below = zfs.world.below(name)
                held = any(snap.holds for each in below for snap in each.snapshots.values())
                if held or _is_busy(zfs, dataset):
                    return False
                zfs.by_hand |= {snap.guid for each in below for snap in each.snapshots.values()}
                self._judge.gone(host.name, [each.name for each in below])
                zfs.world.destroy(name, recursive=True)
            case _:
                raise AssertionError(event.kind)
        return True

    def _change(self, host: Host, dataset: Dataset, event: Event) -> bool:
        """It gets something that it had not; not in the middle of a receive into it, which would fail at its end in
        zfs, and does not in the model."""
        if dataset.key in host.zfs.receiving_keys:
            return False
        if event.kind == "touch":
            host.zfs.write(dataset.name, {"touched": self._rng.randbytes(10)})
        elif not take(self._judge, host.zfs, dataset.name, f"manual_{round(event.at)}"):
            return False
        if dataset.name not in _written(host):
            did = "written to" if event.kind == "touch" else "snapshotted"
            self._judge.excuse(host.name, dataset.name, f"a replica was {did} by hand")
        return True

    def _release(self, host: Host, dataset: Dataset) -> bool:
        held = [each for each in dataset.snapshots.values() if each.holds]
        for snapshot in held:
            snapshot.holds.clear()
            snapshot.shown = None
        if held:
            self._judge.let_go(host.name, dataset)
            self._judge.excuse(host.name, dataset.name, "all holds were released")
        return bool(held)

    def _unmark(self, host: Host, dataset: Dataset) -> bool:
        if not dataset.bookmarks:
            return False
        dataset.bookmarks.clear()
        self._judge.excuse(host.name, dataset.name, "all bookmarks were destroyed")
        return True

    def _hold(self, host: Host, dataset: Dataset, event: Event) -> bool:
        snapshots = list(dataset.snapshots.values())
        if event.count >= len(snapshots):
            return False
        snapshot = snapshots[-1 - event.count]
        snapshot.holds["legal"] = round(event.at)
        snapshot.shown = None
        self._judge.held(host.name, snapshot.guid, "legal")
        return True

    def _destroy(self, host: Host, dataset: Dataset, event: Event) -> bool:
        snapshots = list(dataset.snapshots.values())
        if event.count >= len(snapshots):
            return False
        victim = snapshots[-1 - event.count]
        if victim.holds or any(each is victim for each in host.zfs.sending_now):
            return False
        gone = [each for each in host.zfs.listed(dataset.name) if each.guid == victim.guid]
        host.zfs.by_hand.add(victim.guid)
        del dataset.snapshots[victim.name]
        self._judge.admin_destroyed(host.name, dataset.name, gone)
        self._judge.excuse(host.name, dataset.name, "a snapshot was destroyed by hand")
        return True


def _sends_raw(host: Host) -> bool:
    """Whether its jobs send nothing that is not encrypted."""
    return any(
        job.send.encrypted for job in host.config.jobs if isinstance(job, PushJob | SourceJob)
    )


def _is_busy(zfs: FaultyZfs, dataset: Dataset) -> bool:
    """Whether something of it or below it is sent or received now."""
    below = zfs.world.below(dataset.name)
    sent = {id(each) for each in zfs.sending_now}
    return any(
        each.key in zfs.receiving_keys or any(id(snap) in sent for snap in each.snapshots.values())
        for each in below
    )


def _kill(host: Host, event: Event) -> bool:
    """It is up again when the quiet cycles begin."""
    if host.zfs.dead:
        return False
    host.kill(down_for=max(1.0, min(event.count, FAULTY_S - trio.current_time())))
    return True


def take(judge: Judge, zfs: FaultyZfs, dataset: str, name: str) -> bool:
    """A snapshot by hand; False where that name is taken."""
    if name in {each.name for each in zfs.listed(dataset)}:
        return False
    zfs.take_by_hand(DatasetPath.parse(dataset), name)
    judge.note_taken(zfs.host, dataset)
    return True


def _written(host: Host) -> set[str]:
    return {each.name for each in host.zfs.world.all() if each.name.startswith("tank/")}
