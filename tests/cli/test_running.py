from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
import trio

from zrepl_trio.cli import running


@contextmanager
def handled(by: Any) -> Iterator[None]:
    """Ctrl-C is handled that way in the block."""
    before = signal.signal(signal.SIGINT, by)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_unwinds_what_runs_and_is_left_to_the_process_before_and_after() -> None:
    cleaned_up = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        finally:
            cleaned_up.append(1)

    def end_the_process(_number: int, _frame: object) -> None:
        raise AssertionError("not while something runs")

    with handled(end_the_process):
        with pytest.raises(KeyboardInterrupt):
            running.run(work)
        assert cleaned_up
        assert signal.getsignal(signal.SIGINT) is end_the_process


def test_ignored_it_stays_ignored() -> None:
    async def work() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        await trio.lowlevel.checkpoint()
        return "done"

    with handled(signal.SIG_IGN):
        assert running.run(work) == "done"


def test_until_a_command_sees_to_its_logs_only_warnings_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main() -> None:
        log = structlog.get_logger()
        log.debug("too much")
        log.info("too much")
        log.warning("not too much")
        await trio.lowlevel.checkpoint()

    before = structlog.get_config()
    running.run(main)
    assert structlog.get_config() == before
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("too much") == 1
