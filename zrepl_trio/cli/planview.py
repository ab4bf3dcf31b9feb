"""A job's plan as text for a person: a pure function of the plan.

Names and texts may come from a peer, so they are escaped before they reach a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.text import Text

from zrepl_trio.amounts import bytes_text
from zrepl_trio.logs.lines import escape
from zrepl_trio.replication.diff import Modified
from zrepl_trio.replication.preview import FilesystemPreview, Resolution, StepPreview, total

__all__ = ["plan_lines"]

_MOST_NAMED = 8


def plan_lines(
    job: str, kind: str, peer: str, filesystems: Sequence[FilesystemPreview], *, error: str = ""
) -> Iterator[Text]:
    """A heading, a block for each filesystem with something to say, a line with the sums."""
    arrow = "to" if kind == "push" else "from"
    yield Text(escape(job), "bold").append(f"  {kind} {arrow} {escape(peer)}", "not bold")
    if error:
        for line in error.splitlines():
            yield Text(f"  {escape(line)}", "red")
        return
    current = [
        each
        for each in filesystems
        if not (each.steps or each.problem or each.resolution or each.renames)
    ]
    for each in filesystems:
        if each.problem:
            yield from _problem(each)
        elif each.steps or each.note or each.resolution or each.renames:
            yield from _steps(each)
    if current:
        yield Text(f"  {_names([str(each.path) for each in current])}: up to date", "green")
    yield _sums(filesystems)


def _steps(each: FilesystemPreview) -> Iterator[Text]:
    count = len(each.steps)
    head = Text(f"  {escape(str(each.path))}", "bold")
    yield head.append(f"  {count} step{'' if count == 1 else 's'}, {_size(each.size)}", "not bold")
    if each.place is not None and not each.place.endswith(f"/{each.path}"):
        yield Text(f"    goes to {escape(str(each.place))}")
    if each.note:
        yield Text(f"    {escape(each.note)}", "yellow")
    if each.renames is not None:
        yield Text(f"    first the replica is renamed: it is still that of {escape(each.renames)}")
    if isinstance(each.conflict, Modified) and each.resolution is None:
        yield from _maybe_modified(each, each.conflict)
    if each.resolution is not None:
        yield Text(
            f"    first {each.resolution.name}: {escape(_resolution(each.resolution))}", "red"
        )
    if each.placeholders:
        made = _names([str(path) for path in each.placeholders])
        yield Text(f"    makes the placeholder{'s' if len(each.placeholders) > 1 else ''} {made}")
    width = max((len(_span(step)) for step in each.steps), default=0)
    for step in each.steps:
        resumes = "  resumes what is partly received" if step.resumes else ""
        yield Text(f"    {escape(_span(step)):{width}}  {_size(step.size)}{resumes}")
    yield from _together(each.steps)
    yield from _protection(each.steps)
    yield from _dropped(each)


def _together(steps: Sequence[StepPreview]) -> Iterator[Text]:
    ends = [one for one, after in pairwise(steps) if one.stream != after.stream]
    count = len(ends) + 1
    if not steps or count == len(steps):
        return
    if not ends:
        yield Text("    all in one stream")
        return
    upto = _names([one.to for one in (*ends, steps[-1])])
    yield Text(
        f"    in {count} streams, up to {upto}, unless the first show that more or less is better"
    )


def _protection(steps: Sequence[StepPreview]) -> Iterator[Text]:
    held = _distinct(name for step in steps for name in step.hold)
    marked = _distinct(name for step in steps for name in step.tentative)
    if held:
        yield Text(f"    sender: holds {_names(held)} while they are sent", "dim")
    if marked:
        yield Text(f"    sender: tentative cursors at {_names(marked)} while they are sent", "dim")
    last = steps[-1] if steps else None
    if last is not None and last.cursor is not None:
        yield Text(f"    sender: the cursor moves to {escape(last.cursor)}", "dim")
    if last is not None and last.received_hold is not None:
        yield Text(f"    receiver: its hold moves to {escape(last.received_hold)}", "dim")


def _dropped(each: FilesystemPreview) -> Iterator[Text]:
    for text, names in (
        ("sender: releases what it holds of", each.sender.releases),
        ("sender: destroys", each.sender.destroys),
        ("receiver: releases what it holds of", each.receiver.releases),
    ):
        if names:
            yield Text(f"    {text} {_names(names)}", "dim")


def _problem(each: FilesystemPreview) -> Iterator[Text]:
    first, *rest = each.problem.splitlines()
    yield Text(f"  {escape(first)}", "bold red")
    for line in rest:
        yield Text(f"  {escape(line)}", "red")
    for resolution in each.resolutions:
        yield Text(f"    {resolution.name}: {escape(_resolution(resolution))}")


def _maybe_modified(each: FilesystemPreview, conflict: Modified) -> Iterator[Text]:
    size = bytes_text(conflict.written or 0)
    yield Text(
        f"    receiver modified? {size} were written there since {escape(conflict.ancestor.relative)}: "
        "if files were changed, zfs will take no increment",
        "yellow",
    )
    for resolution in each.resolutions:
        yield Text(f"      {resolution.name}: {escape(_resolution(resolution))}")


def _resolution(resolution: Resolution) -> str:
    if resolution.written is not None:
        return (
            f"{resolution.does}; destroys what was written since, {bytes_text(resolution.written)}"
        )
    if not resolution.destroys:
        return f"{resolution.does}; destroys nothing"
    names = _names([version.relative for version in resolution.destroys])
    return f"{resolution.does}; destroys {names} and what was written since"


def _span(step: StepPreview) -> str:
    return f"{step.from_} => {step.to}" if step.from_ else f"full send {step.to}"


def _size(size: int | None) -> str:
    return "size unknown" if size is None else bytes_text(size)


def _sums(filesystems: Sequence[FilesystemPreview]) -> Text:
    steps, size, known = total(filesystems)
    problems = sum(1 for each in filesystems if each.problem)
    text = f"  {len(filesystems)} filesystem{'' if len(filesystems) == 1 else 's'}: "
    text += (
        f"{steps} step{'' if steps == 1 else 's'}, {'' if known else 'at least '}{bytes_text(size)}"
    )
    line = Text(text)
    if problems:
        line.append(f", {problems} cannot be replicated", "red")
    return line


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(escape(name) for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _distinct(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))
