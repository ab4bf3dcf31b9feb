from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs.clocks import FollowingClock
from tests.support.logs import logged
from zrepl_trio.errors import Refused
from zrepl_trio.jobs.base import NO_WISHES, JobStatus, JobType, Phase, SignalRefused, Wishes
from zrepl_trio.jobs.supervisor import RestartPolicy, Supervisor, error_text
from zrepl_trio.logs.lines import Format, Level

POLICY = RestartPolicy(first_s=1, longest_s=8, healthy_s=60)


class ScriptedJob:
    """Runs one script step a `run`; the last one again and again."""

    type = JobType.PULL

    def __init__(self, name: str, *script: Callable[[], None] | float) -> None:
        self.name = name
        self.script = list(script)
        self.starts: list[float] = []
        self.signals: list[str] = []
        self.phase = Phase.STARTING

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.starts.append(trio.current_time())
        step = self.script[min(len(self.starts), len(self.script)) - 1]
        if callable(step):
            step()
        task_status.started()
        self.phase = Phase.WAITING
        if not callable(step):
            await trio.sleep(step)
            raise Refused(f"{self.name} fails after {step} s")
        await trio.sleep_forever()

    def status(self) -> JobStatus:
        return JobStatus(name=self.name, type=self.type, phase=self.phase)

    def wakeup(self, wishes: Wishes = NO_WISHES) -> None:
        del wishes
        self.signals.append("wakeup")

    def reset(self) -> None:
        self.signals.append("reset")


def refuse() -> None:
    raise Refused("no such directory")


def crash() -> None:
    raise ZeroDivisionError("a bug")


def nothing() -> None:
    pass


def one(supervisor: Supervisor, name: str) -> JobStatus:
    return next(status for status in supervisor.status() if status.name == name)


async def test_a_failing_job_is_restarted_with_back_off_and_others_do_not_notice(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bad, good = ScriptedJob("bad", refuse), ScriptedJob("good", nothing)
    supervisor = Supervisor([bad, good], clock=FollowingClock(), policy=POLICY)
    await nursery.start(supervisor.run)
    await trio.sleep(30)
    assert bad.starts == pytest.approx([0, 1, 3, 7, 15, 23])
    assert good.starts == [0]
    status = one(supervisor, "bad")
    assert status.phase is Phase.FAILED
    assert status.error == "no such directory"
    assert status.failures == 6
    assert status.restart_at is not None
    assert one(supervisor, "good").phase is Phase.WAITING
    nursery.cancel_scope.cancel()


async def test_a_mended_job_stands_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    job = ScriptedJob("job", crash, crash, nothing)
    supervisor = Supervisor([job], clock=FollowingClock(), policy=POLICY)
    await nursery.start(supervisor.run)
    assert one(supervisor, "job").phase is Phase.FAILED
    await trio.sleep(4)
    status = one(supervisor, "job")
    assert status.phase is Phase.WAITING
    assert status.error == ""
    assert status.restart_at is None
    nursery.cancel_scope.cancel()


async def test_a_long_healthy_run_forgives_earlier_failures(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    job = ScriptedJob("job", refuse, refuse, refuse, 100.0, nothing)
    supervisor = Supervisor([job], clock=FollowingClock(), policy=POLICY)
    await nursery.start(supervisor.run)
    await trio.sleep(200)
    assert job.starts == pytest.approx([0, 1, 3, 7, 108])
    nursery.cancel_scope.cancel()


async def test_a_failure_after_start_does_not_disturb_who_waited_for_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    job = ScriptedJob("job", 5.0, nothing)
    supervisor = Supervisor([job], clock=FollowingClock(), policy=POLICY)
    await nursery.start(supervisor.run)
    await trio.sleep(5.5)
    assert one(supervisor, "job").phase is Phase.FAILED
    await trio.sleep(1)
    assert one(supervisor, "job").phase is Phase.WAITING
    nursery.cancel_scope.cancel()


async def test_signals_reach_a_standing_job_only(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bad, good = ScriptedJob("bad", refuse), ScriptedJob("good", nothing)
    supervisor = Supervisor([bad, good], clock=FollowingClock(), policy=POLICY)
    await nursery.start(supervisor.run)
    supervisor.wakeup("good")
    supervisor.reset("good")
    assert good.signals == ["wakeup", "reset"]
    with pytest.raises(SignalRefused, match="no such directory"):
        supervisor.wakeup("bad")
    with pytest.raises(SignalRefused, match="Job ugly does not exist"):
        supervisor.reset("ugly")
    nursery.cancel_scope.cancel()


async def test_a_bug_is_logged_with_its_traceback_an_expected_failure_without(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    clock = FollowingClock()
    with logged(clock, Level.INFO, Format.JSON) as written:
        jobs = [ScriptedJob("bug", crash), ScriptedJob("user", refuse)]
        await nursery.start(Supervisor(jobs, clock=clock, policy=POLICY).run)
    nursery.cancel_scope.cancel()
    lines = {line["job"]: line for line in map(json.loads, written)}
    assert "test_supervisor.py" in lines["bug"]["traceback"]
    assert "traceback" not in lines["user"]
    assert lines["user"]["err"] == "no such directory"


@given(st.integers(min_value=1, max_value=10**6))
def test_the_back_off_grows_and_is_bounded(failures: int) -> None:
    policy = RestartPolicy()
    assert policy.first_s <= policy.delay_s(failures) <= policy.longest_s
    assert policy.delay_s(failures) <= policy.delay_s(failures + 1)


def test_error_text_opens_groups_and_says_each_cause_once() -> None:
    group = ExceptionGroup("g", [Refused("a"), ExceptionGroup("h", [Refused("a"), OSError("b")])])
    assert error_text(group) == "a; OSError: b"
