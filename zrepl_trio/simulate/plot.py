"""A simulation's report as a picture. Needs matplotlib, which is an extra."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from zrepl_trio.simulate.report import DatasetStory, Sample, SimulationReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

__all__ = ["looks", "plot", "series", "title"]

_COLORS = ("#2f6fb0", "#d9822b", "#3d8f5b", "#8a5cb0", "#b5485d", "#6b7a86")
_DASHES = ("-", "--", ":", "-.")
"""Where there are more than colours."""

_GREY, _DOWN = "#5f6b76", "#c0392b"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

_HOUR_S, _DAY_S = 3600, 86400

_STROKES = 1500
"""As many of them can be told apart side by side."""

_PLACES = re.compile(r' (?:d|x|y)="[^"]*"')
_NUMBER = re.compile(r"-?\d+\.\d+")
_POINT = re.compile(r"[ML] (\S+) (\S+) \n")
_LINE = re.compile(r"M \S+ \S+ \n(?:L \S+ \S+ \n)+")
"""From one move to the next."""

_STYLE: dict[RcKeyType, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa5ae",
    "axes.titleweight": "bold",
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7ea",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "svg.hashsalt": "zrepl-trio",  # the same report, the same bytes
}

_AGES = (
    (600, "10 min"),
    (_HOUR_S, "1 h"),
    (6 * _HOUR_S, "6 h"),
    (_DAY_S, "1 d"),
    (7 * _DAY_S, "1 w"),
    (30 * _DAY_S, "30 d"),
    (91 * _DAY_S, "13 w"),
    (365 * _DAY_S, "1 y"),
    (5 * 365 * _DAY_S, "5 y"),
)


def plot(report: SimulationReport, path: Path) -> None:
    """Draw it into a file of the kind that its suffix says; raises OSError."""
    with mpl.rc_context(_STYLE):
        figure = _figure(report)
        suffix = path.suffix.lower()
        if suffix == ".svg":
            text = StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
            path.write_text(_PLACES.sub(_shortened, text.getvalue()))
        else:
            metadata = {"CreationDate": None} if suffix == ".pdf" else None
            figure.savefig(path, dpi=130, metadata=metadata)


def _shortened(attribute: re.Match[str]) -> str:
    """Places to a tenth of a point, and no line through more points than it takes: else a year of steps makes
    a file of twice the size."""
    text = _NUMBER.sub(lambda found: f"{round(float(found[0]), 1) + 0:g}", attribute[0])
    return _LINE.sub(_straightened, text)


def _straightened(line: re.Match[str]) -> str:
    points: list[tuple[str, str]] = []
    for point in _POINT.findall(line[0]):
        if len(points) > 1 and any(points[-2][i] == points[-1][i] == point[i] for i in (0, 1)):
            points.pop()
        if point not in points[-1:]:
            points.append(point)
    (before, *_), text = points, f"M{points[0][0]} {points[0][1]}"
    for point in points[1:]:
        if point[0] == before[0]:
            text += f"V{point[1]}"
        else:
            text += f"H{point[0]}" if point[1] == before[1] else f"L{point[0]} {point[1]}"
        before = point
    return text + "\n"


def _figure(report: SimulationReport) -> Figure:
    groups = series(report.datasets)
    look_of = looks(groups)
    strips = _examples(report.datasets)
    figure = Figure(figsize=(10, 8.4 + 0.4 * len(strips)), layout="constrained")
    rows = figure.add_gridspec(4, 1, height_ratios=[2.2, 2.2, 2.2, 0.7 + 0.42 * len(strips)])
    kept = figure.add_subplot(rows[0])
    behind = figure.add_subplot(rows[1], sharex=kept)
    space = figure.add_subplot(rows[2], sharex=kept)
    ages = figure.add_subplot(rows[3])

    power = _unit(groups)
    for label, stories in groups.items():
        # copies often lie on what they are copies of, which is to be seen below them
        below = any(not story.is_replica for story in stories)
        line: dict[str, Any] = {"label": label, **look_of[label]}
        line |= {"linewidth": 3.2, "alpha": 0.55} if below else {"linewidth": 1.4}
        _band(kept, report, stories, line, lambda sample: sample.snapshots)
        _total(space, report, stories, line, 1024**power)
        copies = [story for story in stories if story.is_replica]
        if copies:
            _worst(behind, report, copies, {"label": label, **look_of[label]})
    kept.set_title("Snapshots kept, of each dataset")
    kept.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    behind.set_title("How far the furthest copy is behind")
    _span_axis(behind, report)
    space.set_title("Space, all datasets with their snapshots")
    space.yaxis.set_major_locator(MaxNLocator(nbins=5))
    space.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} {_UNITS[power]}"))
    for axes in (kept, space):
        axes.set_ylim(bottom=0)
    lasts_s = (report.end - report.start).total_seconds()
    for axes in (kept, behind, space):
        _outages(axes, report)
        axes.set_xlim(_days(report, 0), _days(report, lasts_s))
        locator = AutoDateLocator(minticks=4, maxticks=13)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.margins(x=0)
    for axes in (kept, behind):
        axes.tick_params(labelbottom=False)
        axes.xaxis.get_offset_text().set_visible(False)
    _legend(kept, report)
    _strips(ages, strips, {label: look["color"] for label, look in look_of.items()}, groups)
    figure.suptitle(
        title(report),
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
    )
    return figure


def series(stories: Iterable[DatasetStory]) -> dict[str, list[DatasetStory]]:
    """What is drawn as one, by its name: a host's own datasets, and its copies, which may be in another pool."""
    kinds: dict[tuple[str, bool], list[DatasetStory]] = {}
    for story in stories:
        kinds.setdefault((story.host, story.is_replica), []).append(story)
    return {
        f"{host}, copies" if is_replica and (host, False) in kinds else host: found
        for (host, is_replica), found in kinds.items()
    }


def looks(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """No two alike, so long as there are not more than colours by dashes."""
    return {
        label: {
            "color": _COLORS[index % len(_COLORS)],
            "linestyle": _DASHES[index // len(_COLORS) % len(_DASHES)],
        }
        for index, label in enumerate(labels)
    }


def title(report: SimulationReport) -> str:
    """How long from when, and what stands out."""
    links, wanting = len(report.links), len(report.needs_a_person)
    lasts_s = round((report.end - report.start).total_seconds())
    unit_s, unit = next(
        (each_s, name)
        for each_s, name in ((_DAY_S, "day"), (_HOUR_S, "hour"), (60, "minute"), (1, "second"))
        if lasts_s % each_s == 0
    )
    count = lasts_s // unit_s
    return (
        f"{count} {unit}{'s' if count != 1 else ''} from "
        + f"{report.start:%d %B %Y}".lstrip("0")
        + (f" · {links} link{'s' if links != 1 else ''}" if links else "")
        + (f" · {wanting} need{'s' if wanting == 1 else ''} a person" if wanting else "")
    )


def _days(report: SimulationReport, seconds: float) -> float:
    """So many seconds after the start as matplotlib has times: in days since 1970."""
    return (report.start.timestamp() + seconds) / _DAY_S


def _band(
    axes: Axes,
    report: SimulationReport,
    stories: Sequence[DatasetStory],
    line: dict[str, Any],
    value: Callable[[Sample], float],
) -> None:
    """The middle dataset as a line, all of them as a band."""
    longest = max(stories, key=lambda story: len(story.samples)).samples
    by_time: dict[int, list[float]] = {sample.at_s: [] for sample in longest}
    for story in stories:
        for sample in story.samples:
            by_time.setdefault(sample.at_s, []).append(value(sample))
    rows = [sorted(found) for _, found in sorted(by_time.items())]
    times = [_days(report, at_s) for at_s in sorted(by_time)]
    low, high = [row[0] for row in rows], [row[-1] for row in rows]
    if low != high:
        axes.fill_between(times, low, high, color=line["color"], alpha=0.18, linewidth=0)
    axes.plot(times, [row[len(row) // 2] for row in rows], **line)


def _summed(stories: Sequence[DatasetStory]) -> dict[int, int]:
    total: dict[int, int] = {}
    for story in stories:
        for sample in story.samples:
            total[sample.at_s] = total.get(sample.at_s, 0) + sample.space
    return total


def _total(
    axes: Axes,
    report: SimulationReport,
    stories: Sequence[DatasetStory],
    line: dict[str, Any],
    unit: float,
) -> None:
    total = _summed(stories)
    times = [_days(report, at_s) for at_s in sorted(total)]
    sums = [total[at_s] / unit for at_s in sorted(total)]
    axes.plot(times, sums, **line)


def _worst(
    axes: Axes, report: SimulationReport, stories: Sequence[DatasetStory], line: dict[str, Any]
) -> None:
    color = line["color"]
    worst: dict[int, float] = {}
    for story in stories:
        for sample in story.samples:
            if sample.lag_s is not None:
                worst[sample.at_s] = max(worst.get(sample.at_s, 0.0), sample.lag_s)
    times = [_days(report, at_s) for at_s in sorted(worst)]
    lags = [max(worst[at_s], 1) for at_s in sorted(worst)]
    axes.fill_between(times, lags, color=color, alpha=0.15, linewidth=0, step="pre")
    axes.step(times, lags, linewidth=1.3, where="pre", **line)
    first = max(stories, key=lambda story: story.worst_lag_s or 0)
    if first.worst_lag_s and first.worst_lag_at is not None:
        right = first.worst_lag_at > report.start + (report.end - report.start) * 0.7
        at = first.worst_lag_at.timestamp() / _DAY_S
        axes.annotate(
            f"{_span_tick(first.worst_lag_s, 0)} on {first.worst_lag_at:%d %b %H:%M}",
            (at, first.worst_lag_s),
            xytext=(-6 if right else 6, 7),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8.5,
            color=color,
        )
        axes.plot([at], [first.worst_lag_s], "o", color=color, markersize=4)


def _span_axis(axes: Axes, report: SimulationReport) -> None:
    lags = [
        sample.lag_s
        for story in report.replicas
        for sample in story.samples
        if sample.lag_s is not None
    ]
    if not lags:
        axes.text(0.5, 0.5, "no copies", transform=axes.transAxes, ha="center", color=_GREY)
        axes.set_yticks([])
        return
    axes.set_yscale("log")
    low, high = max(min(lags), 60) / 2, max(*lags, 60) * 2.6
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator([age for age, _ in _AGES if low <= age <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_span_tick))


def _span_tick(seconds: float, _position: int) -> str:
    named = dict(_AGES).get(round(seconds))
    if named is not None:
        return named
    if seconds < 2 * _HOUR_S:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / _HOUR_S:.0f} h" if seconds < 3 * _DAY_S else f"{seconds / _DAY_S:.1f} d"


def _unit(groups: dict[str, list[DatasetStory]]) -> int:
    """The power of 1024 by which the greatest total is a small number."""
    totals = [max(_summed(stories).values(), default=0) for stories in groups.values()]
    top, power = max(totals, default=0), 0
    while top >= 1024 and power < len(_UNITS) - 1:
        top, power = top // 1024, power + 1
    return power


def _outages(axes: Axes, report: SimulationReport) -> None:
    windows = {window for link in report.links for window in link.down}
    for begin, end in sorted(windows):
        axes.axvspan(_days(report, begin), _days(report, end), color=_DOWN, alpha=0.10, linewidth=0)


def _legend(axes: Axes, report: SimulationReport) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if any(link.down for link in report.links):
        handles, labels = [*handles, Patch(color=_DOWN, alpha=0.2)], [*labels, "link down"]
    axes.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(1, 1.0),
        ncols=min(len(labels), 7),
        frameon=False,
        borderaxespad=0.2,
    )


def _examples(stories: Sequence[DatasetStory]) -> list[DatasetStory]:
    """Of each host and each ladder that it has, one dataset; with the most snapshots first."""
    chosen: dict[tuple[str, bool], DatasetStory] = {}
    for story in stories:
        key = (story.host, story.is_replica)
        if story.snapshots and (key not in chosen or story.snapshots > chosen[key].snapshots):
            chosen[key] = story
    return list(chosen.values())


def _strips(
    axes: Axes,
    stories: Sequence[DatasetStory],
    colors: dict[str, str],
    groups: dict[str, list[DatasetStory]],
) -> None:
    """Each snapshot that is left at the end, by its age."""
    label_of = {
        (story.host, story.dataset): label for label, found in groups.items() for story in found
    }
    axes.set_title("What is left at the end: each snapshot by its age")
    ages = [max(age, 300.0) for story in stories for age in story.ages_s] or [float(_DAY_S)]
    oldest, youngest = max(ages) * 1.15, min(ages) / 1.15
    half = 0.17 if len(stories) > 1 else 0.11  # a single row is taller, and its text nearer
    for index, story in enumerate(stories):
        row = len(stories) - index
        # one line with gaps: a marker each would make a large file, and thousands lie on one another
        width = math.log(oldest / youngest) / _STROKES
        at = {round(math.log(max(age, 300.0)) / width): max(age, 300.0) for age in story.ages_s}
        strokes = [(age, age, math.nan) for age in at.values()]
        axes.plot(
            [each for stroke in strokes for each in stroke],
            [row - half, row + half, math.nan] * len(strokes),
            color=colors[label_of[story.host, story.dataset]],
            linewidth=1.1,
            solid_capstyle="butt",
        )
        axes.annotate(
            f"{story.dataset}, {story.snapshots} snapshots",
            (oldest, row),
            xytext=(5, 11),
            textcoords="offset points",
            fontsize=8.5,
            color=_GREY,
        )
    axes.set_xscale("log")
    axes.set_xlim(oldest, youngest)
    axes.set_ylim(0.5, len(stories) + 0.8)
    axes.set_yticks(
        range(len(stories), 0, -1),
        [label_of[story.host, story.dataset] for story in stories],
    )
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(
        FixedLocator([age for age, _ in _AGES if youngest <= age <= oldest])
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_span_tick))
