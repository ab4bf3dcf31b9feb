"""What pruning would do, as text for a person and as JSON: pure functions of the plan.

Names and texts may come from a peer, so they are escaped before they reach a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.text import Text

from zrepl_trio.amounts import bytes_text, duration_text
from zrepl_trio.logs.lines import escape
from zrepl_trio.pruning.plan import Fate, FilesystemPrune, Judgement, PruningPolicy, rule_text
from zrepl_trio.pruning.planner import SidePlan
from zrepl_trio.replication.report import JsonValue

__all__ = ["judgement_text", "prune_json", "prune_lines"]

_STYLES = {
    Fate.KEPT: "green",
    Fate.GOES: "red",
    Fate.HELD: "yellow",
    Fate.BASE: "yellow",
    Fate.FOREIGN: "yellow",
    Fate.SPARED: "green",
}
_STAYS = {
    Fate.HELD: "stays, as it is held",
    Fate.BASE: "stays, as the next replication starts from it",
    Fate.FOREIGN: "stays, as the job did not take it and no rule names it",
    Fate.SPARED: "stays by `foreign: keep`, as the job did not take it and no rule names it",
}


def judgement_text(judgement: Judgement, policy: PruningPolicy) -> str:
    """What becomes of it and by which rule."""
    if judgement.fate is Fate.KEPT:
        rules = [rule_text(policy.rules[index]) for index in judgement.kept_by]
        return f"kept by {', '.join(rules)}"
    if judgement.fate is Fate.GOES:
        return "goes, no rule keeps it"
    return f"{_STAYS[judgement.fate]}; no rule keeps it"


def prune_lines(
    job: str, kind: str, sides: Sequence[SidePlan], now: datetime, *, error: str = ""
) -> Iterator[Text]:
    """A heading, a block for each side, each filesystem with all its snapshots, oldest first. An `error` beside
    sides is why the receiver cannot be asked."""
    yield Text(escape(job), "bold").append(f"  {kind}, pruning", "not bold")
    for side in sides:
        yield from _side(side, now)
    if error:
        told = f"receiver: it cannot be asked: {error}" if sides else error
        for line in told.splitlines():
            yield Text(f"  {escape(line)}", "red")


def _side(side: SidePlan, now: datetime) -> Iterator[Text]:
    name = side.policy.side.value
    if side.error:
        yield Text(f"  {name}: {escape(side.error)}", "red")
        return
    if side.policy.keeps_all:
        rules = ", ".join(rule_text(rule) for rule in side.policy.rules)
        yield Text(f"  {name}: the rules keep everything ({escape(rules)})", "green")
        return
    going = sum(len(each.going) for each in side.filesystems)
    known = [size for size in side.sizes.values() if size is not None]
    freed = _freed(sum(known) if len(known) == len(side.sizes) else None) if going else ""
    yield Text(f"  {name}: {going} snapshot{'' if going == 1 else 's'} would go{freed}")
    for each in side.filesystems:
        yield from _filesystem(each, side, now)


def _filesystem(each: FilesystemPrune, side: SidePlan, now: datetime) -> Iterator[Text]:
    head = Text(f"    {escape(str(each.path))}", "bold")
    if each.skipped:
        yield head.append(f"  skipped: {each.skipped}", "not bold dim")
        return
    if each.error:
        yield Text(f"    {escape(each.error)}", "red")
        return
    count, going = len(each.judgements), len(each.going)
    head.append(f"  {going} of {count} would go", "not bold")
    if each.path in side.sizes:
        head.append(_freed(side.sizes[each.path]), "not bold")
    yield head
    width = max((len(one.snapshot.relative) for one in each.judgements), default=0)
    for one in each.judgements:
        age = duration_text(max(0.0, now.timestamp() - one.snapshot.creation))
        text = f"      {escape(one.snapshot.relative):{width}}  {age:>9}  "
        yield Text(text).append(escape(judgement_text(one, side.policy)), _STYLES[one.fate])


def _freed(size: int | None) -> str:
    return ", size unknown" if size is None else f", frees {bytes_text(size)}"


def prune_json(side: SidePlan) -> JsonValue:
    """The same for programs; sizes in bytes, times in seconds since the epoch."""
    rules: list[JsonValue] = [rule_text(rule) for rule in side.policy.rules]
    return {
        "side": side.policy.side.value,
        "rules": rules,
        "error": side.error,
        "filesystems": [_json(each, side) for each in side.filesystems],
    }


def _json(each: FilesystemPrune, side: SidePlan) -> JsonValue:
    return {
        "filesystem": str(each.path),
        "skipped": each.skipped,
        "error": each.error,
        "frees": side.sizes.get(each.path),
        "snapshots": [
            {
                "name": one.snapshot.name,
                "guid": str(one.snapshot.guid),
                "creation": one.snapshot.creation,
                "replicated": one.replicated,
                "fate": one.fate.value,
                "kept_by": list(one.kept_by),
            }
            for one in each.judgements
        ],
    }
