"""A simulation's report, as a text and as a picture."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from zrepl_trio.cli.simulateview import age_text, bars, columns, report_lines
from zrepl_trio.simulate.report import (
    DatasetStory,
    FloorStory,
    LinkStory,
    LoggedLine,
    Sample,
    SimulationReport,
    Trouble,
    ladder_of,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def a_report(**changes: object) -> SimulationReport:
    samples = tuple(Sample(day * 86400, day, 3600.0, day << 30) for day in range(1, 11))
    replica = DatasetStory(
        host="b",
        dataset="storage/tank",
        origin="a:tank",
        is_replica=True,
        snapshots=2,
        most_snapshots=9,
        oldest=START,
        newest=START,
        ladder=ladder_of([0, 86400], 172_800),
        ages_s=(86400.0, 172_800.0),
        space=3 << 30,
        most_space=4 << 30,
        bytes_received=5 << 30,
        first_copy_s=3600.0,
        lag_s=600.0,
        worst_lag_s=50 * 3600.0,
        worst_lag_at=START,
        samples=samples,
    )
    report = SimulationReport(
        seed=1,
        hosts=("b",),
        start=START,
        end=START.replace(month=2),
        wire=True,
        notes=("a: hooks are not run",),
        datasets=(replica,),
        links=(
            LinkStory(
                host="b",
                job="pull",
                peer="a",
                peer_job="source",
                identity="b",
                runs=100,
                failed=3,
                down=((0, 3600), (7200, 10800)),
            ),
        ),
        troubles=(),
        logged=(),
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def trouble(**changes: object) -> Trouble:
    what = Trouble(
        kind="conflict",
        host="b",
        job="pull",
        filesystem="tank",
        text="tank: does not fit",
        times=3,
        first=START,
        last=START,
        lasts=True,
    )
    return replace(what, **changes)  # type: ignore[arg-type]


def test_a_plot_tells_a_hosts_own_datasets_from_its_copies() -> None:
    """Their pools are not the same, as with a local push: the space of both is no sum that says anything."""
    plot = pytest.importorskip("zrepl_trio.simulate.plot")
    (copy,) = a_report().datasets
    own = replace(copy, host="a", dataset="tank", is_replica=False)
    both = replace(own, host="b")
    assert plot.series([own, copy]) == {"a": [own], "b": [copy]}
    assert plot.series([both, own, copy, copy]) == {
        "b": [both],
        "a": [own],
        "b, copies": [copy, copy],
    }


def test_no_two_lines_of_a_plot_look_alike() -> None:
    plot = pytest.importorskip("zrepl_trio.simulate.plot")
    found = plot.looks(str(number) for number in range(24))
    assert len({tuple(look.items()) for look in found.values()}) == 24
    assert {look["linestyle"] for look in list(found.values())[:6]} == {"-"}


@pytest.mark.parametrize(
    ("lasts", "troubles", "links", "says"),
    [
        (timedelta(hours=1), 0, 1, "1 hour from 1 January 2026 · 1 link"),
        (timedelta(days=365), 1, 0, "365 days from 1 January 2026 · 1 needs a person"),
        (timedelta(minutes=90), 2, 2, "90 minutes from 1 January 2026 · 2 links · 2 need a person"),
    ],
)
def test_a_plots_title(lasts: timedelta, troubles: int, links: int, says: str) -> None:
    plot = pytest.importorskip("zrepl_trio.simulate.plot")
    report = a_report(
        end=START + lasts, troubles=(trouble(),) * troubles, links=a_report().links * links
    )
    assert plot.title(report) == says


def test_the_text_has_all_of_the_report() -> None:
    lines = "\n".join(report_lines(a_report()))
    for part in (
        "2026-01-01 00:00 to 2026-02-01 00:00 UTC, seed 1, 1 host, by the wire",
        "b/pull to a/source as b: 100 runs, 3 failed, cut 2 times for 2 h together",
        "50 h on 2026-01-01 00:00",
        "3.0 GiB   5.0 GiB",
        "1 every 24 h",
        "▁▂▃▄▅▅▆▇██",
        "Nothing needed a person.",
        "To bear in mind:",
        "a: hooks are not run",
    ):
        assert part in lines, part


def test_one_run_is_no_runs_and_what_is_not_there_has_no_table() -> None:
    (link,) = a_report().links
    report = a_report(
        datasets=(), links=(replace(link, runs=1, failed=1),), troubles=(trouble(times=1),)
    )
    lines = list(report_lines(report))
    assert "  b/pull to a/source as b: 1 run, 1 failed, cut 2 times for 2 h together" in lines
    assert "  b/pull: since 2026-01-01 00:00, 1 run: tank: does not fit" in lines
    assert "  none: no dataset is written to, and none was received" in lines
    assert not [line for line in lines if "DATASET" in line or "Over time" in line]


def test_a_copy_that_never_came_is_told_with_its_lag() -> None:
    report = a_report()
    never = replace(report.datasets[0], first_copy_s=None, lag_s=86400.0)
    (line,) = [
        line
        for line in report_lines(replace(report, datasets=(never,), hosts=("a", "b", "c")))
        if "never copied" in line
    ]
    assert "24 h" in line.partition("never copied")[2]
    assert "3 hosts" in next(report_lines(replace(report, hosts=("a", "b", "c"))))


def test_troubles_are_told_by_whether_they_last_and_the_same_ones_once() -> None:
    passed = [trouble(lasts=False, filesystem=name, text=f"{name}: x") for name in ("t1", "t2")]
    lines = list(report_lines(a_report(troubles=(trouble(), *passed))))
    assert "1 thing needed a person:" in lines
    assert "  b/pull: since 2026-01-01 00:00, 3 runs: tank: does not fit" in lines
    assert "  b/pull: 2 times, last 2026-01-01 00:00: t2: x" in lines


def test_what_a_floor_keeps_is_told_apart_from_what_needs_a_person() -> None:
    floor = FloorStory(host="a", job="sink", client="b", times=3, most=20, first=START, last=START)
    lines = list(report_lines(a_report(floors=(floor,))))
    assert "Nothing needed a person." in lines
    assert (
        "  a/sink: up to 20 snapshots of a request by b, in 3 requests, last 2026-01-01 00:00"
        in lines
    )


def test_texts_of_several_lines_are_set_in() -> None:
    text = "tank: does not fit\n  \x1b[1mon both: a, b"
    logged = LoggedLine(
        level="error",
        host="b",
        job="pull",
        text=f"plan err={text}",
        times=2,
        first=START,
        last=START,
    )
    report = a_report(
        troubles=(trouble(text=text), trouble(text=text, lasts=False)), logged=(logged,)
    )
    lines = list(report_lines(report))
    assert lines.count("        \\x1b[1mon both: a, b") == 3
    for before in ("3 runs: tank", "00:00: tank", "2 times: plan err=tank"):
        assert any(line.endswith(f"{before}: does not fit") for line in lines), before


def test_the_logs_most_frequent_lines_are_shown_and_control_signs_escaped() -> None:
    logged = tuple(
        LoggedLine(
            level="error",
            host="a",
            job="j",
            text=f"line {n}\x1b[1m",
            times=n,
            first=START,
            last=START,
        )
        for n in range(1, 15)
    )
    lines = list(report_lines(a_report(logged=logged)))
    assert "  error a/j, 14 times: line 14\\x1b[1m" in lines
    assert "  and 2 others (--json and --log have them all)" in lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (45, "45 s"),
        (600, "10 min"),
        (7200, "2 h"),
        (86400, "24 h"),
        (4.5 * 86400, "4.5 d"),
        (30 * 86400, "30 d"),
    ],
)
def test_spans_are_in_one_unit(seconds: float | None, text: str) -> None:
    assert age_text(seconds) == text


def test_bars_and_columns() -> None:
    assert bars([]) == ""
    assert bars([0, 0]) == "▁▁"
    assert bars([1, 8]) == "▂█"
    assert len(bars(list(range(365)))) == 26
    assert list(columns([("A", "B"), ("long", "1")], right=frozenset({1}))) == [
        "A     B",
        "long  1",
    ]
