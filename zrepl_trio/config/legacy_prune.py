"""0.0.x prune policies as today's keep rules."""

from __future__ import annotations

from zrepl_trio.config.grid import GRID_WORDS, RetentionGrid
from zrepl_trio.config.nodes import MapNode, ScalarNode
from zrepl_trio.config.regex import Regex
from zrepl_trio.config.scalars import ScalarError

__all__ = ["KEEP_ALL", "keep_rules", "keeps_everything"]

KEEP_ALL: dict[str, object] = {"type": "regex", "regex": ".*"}


def keeps_everything(rules: list[dict[str, object]]) -> bool:
    """Whether the rules destroy nothing."""
    return KEEP_ALL in rules


def keep_rules(
    policy: MapNode, prefix: str | None, *, bookmarks: bool
) -> tuple[list[dict[str, object]], list[str]]:
    """Today's rules for `policy`, and remarks on what they leave out.

    0.0.x pruned only snapshots with the job's prefix; the second rule keeps all others.
    `bookmarks`: this side has them, so 0.0.3 demanded keep_bookmarks here.
    Raises ScalarError for a policy that 0.0.x itself would have refused.
    """
    known = {"policy", "grid", "keep_bookmarks"}
    for key in policy.entries:
        if key not in known:
            raise ScalarError(f"unknown key `{key}` in a policy of 0.0.x", ", ".join(sorted(known)))
    kind = policy.text("policy")
    if kind == "noprune":
        return [KEEP_ALL], []
    if kind != "grid":
        raise ScalarError(f"unknown policy {kind!r}", "grid, noprune")
    grid = policy.get("grid")
    if not isinstance(grid, ScalarNode) or not grid.text:
        raise ScalarError("the policy grid needs a `grid`", GRID_WORDS)
    parsed = RetentionGrid.parse(grid.text)
    if prefix is None:
        raise ScalarError("the policy grid needs the job's `snapshot_prefix`")
    pattern = f"^{Regex.escape(prefix)}"
    rules: list[dict[str, object]] = [
        {"type": "grid", "grid": grid.text, "regex": pattern},
        {"type": "regex", "negate": True, "regex": pattern},
    ]
    if parsed.may_drop_newest:
        # Then, the youngest snapshot stood outside the buckets and was always kept.
        rules.append({"type": "last_n", "count": 1, "regex": pattern})
    return rules, _bookmark_remarks(policy, bookmarks=bookmarks)


def _bookmark_remarks(policy: MapNode, *, bookmarks: bool) -> list[str]:
    text = policy.text("keep_bookmarks")
    if text is None:
        return []
    if text != "all" and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ScalarError(f"keep_bookmarks is {text!r}", "a number, or all")
    if not bookmarks:
        return []
    return [
        (
            "keep_bookmarks has no counterpart: today one cursor bookmark a filesystem marks how far "
            "replication has come; the old ones of the snapshots' names stay, and can be destroyed by "
            "hand once each filesystem has been replicated"
        )
    ]
