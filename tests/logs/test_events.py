"""From structlog to the outlets, and what one outlet's trouble makes the others say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import structlog

from tests.support.logs import collecting, logged
from zrepl_trio.logs.events import REPORT_EVERY, Dispatcher, logging_to
from zrepl_trio.logs.lines import Format, Level


class SetClock:
    def __init__(self) -> None:
        self.time = datetime(2024, 5, 6, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


def test_each_outlet_has_its_level_and_form_and_context_is_carried() -> None:
    loud, loud_lines = collecting(Level.DEBUG)
    quiet, quiet_lines = collecting(Level.WARN, Format.LOGFMT)
    dispatcher = Dispatcher(SetClock())
    dispatcher.add(loud)
    dispatcher.add(quiet)
    log = structlog.get_logger()
    with logging_to(dispatcher, leave_out={"told elsewhere"}):
        with structlog.contextvars.bound_contextvars(job="pull"):
            log.debug("low")
            log.warning("high", err=OSError("why"))
        log.error("told elsewhere")
    assert loud_lines == ["[DEBG][pull]: low", '[WARN][pull]: high err="why"']
    assert quiet_lines == ["level=warn job=pull msg=high err=why"]


def test_an_exception_becomes_its_text_and_a_traceback_on_one_line() -> None:
    with logged(SetClock(), Level.INFO, Format.JSON) as lines:
        try:
            int("boom")
        except ValueError:
            structlog.get_logger().exception("failed")
    document = json.loads(lines[0])
    assert "'boom'" in document["err"]
    assert "ValueError" in document["traceback"]


def test_trouble_is_told_on_the_others_at_most_every_ten_minutes() -> None:
    clock = SetClock()
    bad, bad_lines = collecting(Level.DEBUG, kind="tcp")
    good, good_lines = collecting(Level.ERROR)
    resort, resort_lines = collecting(Level.ERROR)
    dispatcher = Dispatcher(clock)
    dispatcher.add(bad)
    dispatcher.add(good)
    dispatcher.add(resort, last_resort=True)
    dispatcher.trouble(bad, "refused")
    dispatcher.trouble(bad, "refused")
    assert good_lines == ['[ERRO]: outlet error outlet_type="tcp" err="refused"']
    clock.time += REPORT_EVERY
    dispatcher.trouble(bad, "refused")
    clock.time -= timedelta(days=400)  # somebody sets the clock
    dispatcher.trouble(bad, "refused")
    assert len(good_lines) == 3
    assert bad_lines == []
    assert resort_lines == []


def test_outlets_that_all_lose_lines_tell_of_each_other_once() -> None:
    first, first_lines = collecting(Level.INFO, kind="a", takes=False)
    second, second_lines = collecting(Level.INFO, kind="b", takes=False)
    dispatcher = Dispatcher(SetClock())
    dispatcher.add(first)
    dispatcher.add(second)
    with logging_to(dispatcher):
        for _ in range(50):
            structlog.get_logger().info("x")
    assert len(first_lines) == len(second_lines) == 51
    assert sum('outlet error outlet_type="b"' in line for line in first_lines) == 1
    assert sum('outlet error outlet_type="a"' in line for line in second_lines) == 1


def test_the_trouble_of_a_sole_outlet_is_told_at_the_last_resort() -> None:
    sole, _ = collecting(Level.INFO)
    resort, lines = collecting(Level.ERROR)
    dispatcher = Dispatcher(SetClock())
    dispatcher.add(sole)
    dispatcher.add(resort, last_resort=True)
    with logging_to(dispatcher):
        structlog.get_logger().error("for the outlet")
        dispatcher.trouble(sole, "closed")
    assert lines == ['[ERRO]: outlet error outlet_type="test" err="closed"']


def test_after_the_block_structlog_is_as_before() -> None:
    before = structlog.get_config()
    with logged(SetClock(), Level.INFO):
        assert structlog.get_config() != before
    assert structlog.get_config() == before
