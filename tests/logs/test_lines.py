"""The three line formats, and that no text can forge a line."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.logs.lines import Entry, Format, Level, render

NOON = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC)


def entry(msg: str = "hello", level: Level = Level.INFO, **fields: object) -> Entry:
    return Entry(time=NOON, level=level, msg=msg, fields=fields)


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


@pytest.mark.parametrize(
    ("form", "expected"),
    [(Format.HUMAN, "[pull]: hello"), (Format.LOGFMT, "job=pull msg=hello")],
)
def test_level_and_time_can_be_left_to_whoever_gets_the_line(form: Format, expected: str) -> None:
    assert render(entry(job="pull"), form, time=False, level=False) == expected
    assert render(entry(), form, time=False, level=False) in {"hello", "msg=hello"}


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
