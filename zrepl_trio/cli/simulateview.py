"""A simulation's report as text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from zrepl_trio.amounts import bytes_text
from zrepl_trio.logs.lines import escape
from zrepl_trio.simulate.report import (
    CONFLICT,
    RUN,
    RUNGS_S,
    DatasetStory,
    FloorStory,
    Rung,
    SimulationReport,
    Trouble,
)

__all__ = ["age_text", "report_lines"]

_BARS = "▁▂▃▄▅▆▇█"
_BARS_WIDE = 26
_RUNG_NAMES = ("1 h", "1 d", "1 w", "30 d", "13 w", "1 y", "5 y")
_MOST_LOGGED = 12


def report_lines(report: SimulationReport) -> Iterator[str]:
    """The whole report, a line each."""
    hosts = len(report.hosts)
    yield (
        f"{report.start:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} UTC, seed {report.seed}, "
        f"{hosts} host{'s' if hosts != 1 else ''}{', by the wire' if report.wire else ''}"
    )
    yield from _section("Links", _links(report))
    yield from _section("Snapshots, and how far copies are behind", _datasets(report))
    yield from _section(
        "Kept at the end, by age, with what mostly lies between two", _ladder(report.datasets)
    )
    yield from _section("Over time", _over_time(report.datasets))
    yield ""
    yield from _troubles(report)
    yield from _section(
        "Left by a floor, which clients wanted destroyed", map(_floor, report.floors)
    )
    if report.logged:
        yield from _section("The daemons' warnings and errors", _logged(report))
    if report.notes:
        yield from _section("To bear in mind", report.notes)


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield ""
        yield f"{title}:"
        yield from (f"  {line}" for line in found)


def columns(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> Iterator[str]:
    """The rows with their columns one below the other; those in `right` end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()


def age_text(seconds: float | None) -> str:
    """`10 min`, `24 h`, `30 d`: a span in one unit, `-` for none."""
    if seconds is None:
        return "-"
    for unit, factor, up_to in (("s", 1, 120), ("min", 60, 120 * 60), ("h", 3600, 72 * 3600)):
        if seconds < up_to:
            return f"{seconds / factor:.0f} {unit}"
    days = seconds / 86400
    return f"{days:.0f} d" if days >= 9.95 or days % 1 < 0.05 else f"{days:.1f} d"


def _links(report: SimulationReport) -> Iterator[str]:
    for link in report.links:
        failed = f", {link.failed} failed" if link.failed else ""
        times = len(link.down)
        down = f", cut {times} time{'s' if times != 1 else ''} for {age_text(link.down_s)} together"
        yield (
            f"{link.host}/{link.job} to {link.peer}/{link.peer_job} as {link.identity}: "
            f"{link.runs} run{'s' if link.runs != 1 else ''}{failed}{down if times else ''}"
        )


def _datasets(report: SimulationReport) -> Iterator[str]:
    if not report.datasets:
        return iter(["none: no dataset is written to, and none was received"])
    rows = [
        (
            "DATASET",
            "SNAPSHOTS",
            "MOST",
            "OLDEST",
            "BEHIND AT WORST",
            "AT THE END",
            "SPACE",
            "RECEIVED",
        )
    ]
    rows += [
        (
            _name(story),
            str(story.snapshots),
            str(story.most_snapshots),
            _day(story.oldest),
            _worst(story),
            age_text(story.lag_s),
            bytes_text(story.space),
            bytes_text(story.bytes_received) if story.is_replica else "-",
        )
        for story in report.datasets
    ]
    return columns(rows, right=frozenset({1, 2, 5, 6, 7}))


def _name(story: DatasetStory) -> str:
    """Replicas come below what they are copies of."""
    return f"{'  ' if story.is_replica else ''}{story.host}:{escape(story.dataset)}"


def _worst(story: DatasetStory) -> str:
    if story.is_missing:
        return "never copied"
    if story.worst_lag_s is None or story.worst_lag_at is None or not story.worst_lag_s:
        return "-"
    return f"{age_text(story.worst_lag_s)} on {story.worst_lag_at:%Y-%m-%d %H:%M}"


def _day(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d}" if when is not None else "-"


def _ladder(stories: Sequence[DatasetStory]) -> Iterator[str]:
    used = sorted({_index(rung) for story in stories for rung in story.ladder})
    if not used:
        return iter(())
    names = [f"UP TO {_RUNG_NAMES[i]}" if i < len(RUNGS_S) else "OLDER" for i in used]
    rows = [("DATASET", *names)]
    for story in stories:
        rungs = {_index(rung): rung for rung in story.ladder}
        rows.append((_name(story), *(_rung(rungs.get(index)) for index in used)))
    return columns(rows)


def _index(rung: Rung) -> int:
    return RUNGS_S.index(rung.to_s) if rung.to_s is not None else len(RUNGS_S)


def _rung(rung: Rung | None) -> str:
    if rung is None:
        return "-"
    spacing = f" every {age_text(rung.spacing_s)}" if rung.spacing_s is not None else ""
    return f"{rung.count}{spacing}"


def _over_time(stories: Sequence[DatasetStory]) -> Iterator[str]:
    if not stories:
        return iter(())
    rows = [("DATASET", "SNAPSHOTS", "COPY BEHIND", "SPACE")]
    for story in stories:
        samples = story.samples
        rows.append(
            (
                _name(story),
                bars([sample.snapshots for sample in samples]),
                bars([sample.lag_s or 0 for sample in samples]) if story.is_replica else "",
                bars([sample.space for sample in samples]),
            )
        )
    return columns(rows)


def bars(values: Sequence[float]) -> str:
    """The greatest of each stretch of time as a bar; the highest bar is the greatest of all."""
    if not values:
        return ""
    wide = min(_BARS_WIDE, len(values))
    cuts = [len(values) * index // wide for index in range(wide + 1)]
    stretches = [max(values[begin:end]) for begin, end in pairwise(cuts)]
    top = max(stretches) or 1
    return "".join(_BARS[min(int(value / top * len(_BARS)), len(_BARS) - 1)] for value in stretches)


def _troubles(report: SimulationReport) -> Iterator[str]:
    lasting = report.needs_a_person
    if not lasting:
        yield "Nothing needed a person."
    else:
        yield f"{len(lasting)} thing{'s' if len(lasting) != 1 else ''} needed a person:"
        yield from (f"  {line}" for trouble in lasting for line in _trouble(trouble))
    passed = [trouble for trouble in report.troubles if not trouble.lasts]
    if passed:
        yield from _section("Passed by itself", (line for line in _grouped(passed)))


def _trouble(trouble: Trouble) -> Iterator[str]:
    what = "run" if trouble.kind in {CONFLICT, RUN} else "time"
    times = f"{trouble.times} {what}{'s' if trouble.times != 1 else ''}"
    since = f"since {trouble.first:%Y-%m-%d %H:%M}, {times}"
    where = f"{trouble.host}/{trouble.job}"
    yield from _lines(f"{where}: {since}: ", trouble.text)


def _lines(before: str, text: str) -> Iterator[str]:
    """A text whose lines after the first are set in."""
    first, *more = text.split("\n")
    yield f"{before}{escape(first)}"
    yield from (f"    {escape(line)}".rstrip() for line in more)


def _floor(floor: FloorStory) -> str:
    snapshots = f"{floor.most} snapshot{'s' if floor.most > 1 else ''}"
    times = f"{floor.times} request{'s' if floor.times > 1 else ''}, last"
    return (
        f"{floor.host}/{floor.job}: up to {snapshots} of a request by {escape(floor.client)}, in {times} "
        f"{floor.last:%Y-%m-%d %H:%M}"
    )


def _grouped(troubles: Sequence[Trouble]) -> Iterator[str]:
    """The same in different places or at different times, in one line."""
    groups: dict[tuple[str, str, str], list[Trouble]] = {}
    for trouble in troubles:
        bare = trouble.text.replace(trouble.filesystem, "…") if trouble.filesystem else trouble.text
        groups.setdefault((trouble.host, trouble.job, bare.split("\n")[0]), []).append(trouble)
    for (host, job, _), group in groups.items():
        times = len(group)
        often = f"{times} times, last" if times > 1 else "once,"
        yield from _lines(
            f"{host}/{job}: {often} {group[-1].last:%Y-%m-%d %H:%M}: ", group[-1].text
        )


def _logged(report: SimulationReport) -> Iterator[str]:
    most = sorted(report.logged, key=lambda line: -line.times)[:_MOST_LOGGED]
    for line in most:
        where = "/".join(part for part in (line.host, line.job) if part)
        often = f"{line.times} times" if line.times > 1 else "once"
        yield from _lines(f"{line.level} {where}, {often}: ", line.text)
    if len(report.logged) > len(most):
        yield f"and {len(report.logged) - len(most)} others (--json and --log have them all)"
