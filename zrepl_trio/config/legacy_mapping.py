"""0.0.x mappings (`pattern: target`) as what can be said today: a root below which paths stay whole.

Then, `P<: T` put `P/x` at `T/x`; today a dataset `P/x` is put at `root_fs/P/x` by a pull and at
`root_fs/IDENTITY/P/x` by a sink. So an entry can be kept where its target ends with its pattern,
and all entries agree on what stands before.
"""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.zfs.filter import check_pattern
from zrepl_trio.zfs.names import DatasetPath, InvalidName

__all__ = ["UnmappableError", "only_root", "push_targets"]

Pairs = Sequence[tuple[str, str]] | None


class UnmappableError(ValueError):
    """The mapping says what today's form cannot; the text tells why."""

    def __init__(self, message: str, accepted: str = "") -> None:
        super().__init__(message)
        self.accepted = accepted


def _checked(pairs: Pairs) -> list[tuple[str, DatasetPath | None]]:
    """Patterns and targets; None stands for `!` (and for nothing): not mapped."""
    if pairs is None:
        raise UnmappableError("must be a mapping of patterns, each to a dataset or `!`")
    if not pairs:
        raise UnmappableError("is empty, so nothing would be replicated")
    checked: list[tuple[str, DatasetPath | None]] = []
    for pattern, target in pairs:
        try:
            check_pattern(pattern)
            checked.append((pattern, None if target in {"", "!"} else DatasetPath.parse(target)))
        except InvalidName as error:
            raise UnmappableError(str(error)) from None
    return checked


def _base(pattern: str, target: DatasetPath) -> str | None:
    """What stands before the pattern's own path in the target; None if it does not end with it."""
    path = pattern.removesuffix("<")
    if not path:
        return str(target)
    return target.removesuffix("/" + path) if target.endswith("/" + path) else None


def only_root(pairs: Pairs) -> str:
    """The root_fs of a pull whose mapping is `<: T`; UnmappableError for any other."""
    checked = _checked(pairs)
    targets = [(pattern, target) for pattern, target in checked if target is not None]
    if not targets:
        raise UnmappableError("maps nothing, so nothing would be replicated; remove the job")
    if len(checked) == 1 and targets[0][0] == "<":
        return str(targets[0][1])
    bases = {_base(pattern, target) for pattern, target in targets}
    if len(bases) == 1 and None not in bases:
        raise UnmappableError(
            "today a pull takes all that the source offers, and cannot leave some out; offer only "
            "what is wanted in the source's `filesystems`, and write `root_fs: "
            f"{bases.pop()}` here, which puts it in the same places",
            '`mapping: {"<": DATASET}`',
        )
    raise UnmappableError(
        "today a pull keeps the source's paths whole below one root_fs, so these targets cannot "
        "be kept; rename the received datasets on this side with `zfs rename` to "
        "ROOT/PATH-ON-THE-SOURCE, and write `root_fs: ROOT` here",
        '`mapping: {"<": DATASET}`',
    )


def push_targets(pairs: Pairs) -> tuple[str, str, dict[str, bool]]:
    """root_fs, client identity and filesystems by which push and sink keep the target paths."""
    checked = _checked(pairs)
    bases = {_base(pattern, target) for pattern, target in checked if target is not None}
    base = bases.pop() if len(bases) == 1 else None
    if base is None or "/" not in base:
        raise UnmappableError(
            "today a sink puts what it receives at ROOT/IDENTITY/PATH-ON-THE-SENDER, and these "
            "targets do not have that form; rename the received datasets with `zfs rename`, and "
            "write a `push` and a `sink` job with `local` transport in place of this one",
            '`mapping: {"PATH<": ROOT/IDENTITY/PATH}`, one ROOT/IDENTITY for all',
        )
    root, _, identity = base.rpartition("/")
    return root, identity, {pattern: target is not None for pattern, target in checked}
