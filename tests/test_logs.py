"""The three line formats, and that no text can forge a line."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.load import parse_config
from zrepl_trio.logs import (
    Entry,
    Format,
    Level,
    Outlet,
    configure,
    outlets_of,
    render,
    stdout_outlet,
)

NOON = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC)


class Noon:
    def now(self) -> datetime:
        return NOON


def entry(msg: str = "hello", level: Level = Level.INFO, **fields: object) -> Entry:
    return Entry(time=NOON, level=level, msg=msg, fields=fields)


@pytest.fixture(autouse=True)
def restore_logging() -> object:
    yield
    structlog.reset_defaults()


def test_human_line_has_the_prefix_in_order_and_quoted_values() -> None:
    line = render(
        entry(subsystem="rpc", job="pull", peer='a "b"\n'), Format.HUMAN, time=False, color=False
    )
    assert line == r'[INFO][pull][rpc]: hello peer="a \"b\"\n"'


def test_human_line_starts_with_an_rfc3339_time() -> None:
    line = render(entry(), Format.HUMAN)
    assert datetime.fromisoformat(line.split(" ")[0]) == NOON


def test_human_colour_follows_the_level() -> None:
    assert "\x1b[91m[ERRO]\x1b[0m" in render(entry(level=Level.ERROR), Format.HUMAN, color=True)
    assert "\x1b" not in render(entry(level=Level.ERROR), Format.HUMAN)


def test_logfmt_stops_its_prefix_at_the_first_missing_field() -> None:
    line = render(entry(job="pull", span="s", fs="tank/a b"), Format.LOGFMT, time=False)
    assert line == 'level=info job=pull msg=hello span=s fs="tank/a b"'


def test_json_has_time_and_level_and_sorted_keys() -> None:
    line = render(entry(zeta=1, alpha="x"), Format.JSON, time=False)
    document = json.loads(line)
    assert list(document) == ["alpha", "level", "msg", "time", "zeta"]
    assert document["level"] == "info"
    assert document["msg"] == "hello"


@given(st.text(), st.text(), st.sampled_from(Format))
def test_no_text_breaks_out_of_its_line(msg: str, value: str, outlet_format: Format) -> None:
    line = render(entry(msg, field=value, job=value), outlet_format)
    assert line.isprintable() or outlet_format is Format.JSON
    assert len(line.splitlines()) == 1


def test_configure_filters_by_outlet_and_carries_context() -> None:
    loud, quiet = io.StringIO(), io.StringIO()
    configure(
        [
            Outlet(level=Level.DEBUG, format=Format.HUMAN, sink=loud, time=False),
            Outlet(level=Level.WARN, format=Format.LOGFMT, sink=quiet, time=False),
        ],
        Noon(),
    )
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(job="pull"):
        log.debug("low")
        log.warning("high", err=OSError("why"))
    assert loud.getvalue() == '[DEBG][pull]: low\n[WARN][pull]: high err="why"\n'
    assert quiet.getvalue() == "level=warn job=pull msg=high err=why\n"


def test_an_exception_becomes_its_text_and_a_traceback_on_one_line() -> None:
    out = io.StringIO()
    configure([Outlet(level=Level.INFO, format=Format.JSON, sink=out)], Noon())
    try:
        int("boom")
    except ValueError:
        structlog.get_logger().exception("failed")
    document = json.loads(out.getvalue())
    assert "'boom'" in document["err"]
    assert "ValueError" in document["traceback"]


def test_a_closed_sink_loses_lines_and_nothing_else() -> None:
    closed, good = io.StringIO(), io.StringIO()
    closed.close()
    configure(
        [
            Outlet(level=Level.INFO, format=Format.HUMAN, sink=sink, time=False)
            for sink in (closed, good)
        ],
        Noon(),
    )
    structlog.get_logger().info("still here")
    assert good.getvalue() == "[INFO]: still here\n"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "time", "color", "expected"),
    [
        (Tty(), False, True, (True, True)),
        (Tty(), False, False, (True, False)),
        (io.StringIO(), False, True, (False, False)),
        (io.StringIO(), True, True, (True, False)),
    ],
)
def test_stdout_keys_act_as_zrepl_documents(
    stream: io.StringIO, time: bool, color: bool, expected: tuple[bool, bool]
) -> None:
    outlet = stdout_outlet(Level.INFO, Format.HUMAN, time=time, color=color, stream=stream)
    assert (outlet.time, outlet.color) == expected


def test_outlets_come_from_the_config() -> None:
    out = io.StringIO()
    config = parse_config(
        "global: {logging: [{type: stdout, level: info, format: logfmt, time: false}]}"
    ).config
    (outlet,) = outlets_of(config.global_.logging, out)
    assert (outlet.level, outlet.format, outlet.time) == (Level.INFO, Format.LOGFMT, False)


def test_an_empty_list_means_bare_warnings() -> None:
    (outlet,) = outlets_of([], io.StringIO())
    assert (outlet.level, outlet.format, outlet.time) == (Level.WARN, Format.HUMAN, False)
