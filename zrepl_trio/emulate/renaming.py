"""`zfs rename` of a filesystem or volume, with all below it: the rules, without the files."""

from __future__ import annotations

from zrepl_trio.emulate import names
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["rename"]


def rename(world: World, old: str, new: str) -> None:
    """Give `old`, and what is below it, names under `new`; nothing to do when they are the same.

    Who holds the live files moves those.
    """
    top = world.open(old)
    if new == old:
        return
    _check_target(world, old, new)
    cannot = f"cannot rename '{old}'"
    pool = world.pool(top)
    if new in pool.datasets:
        raise Fault(f"{cannot}: dataset already exists")
    root = _encryption_root(world, old)
    if root not in {"", old} and _encryption_root(world, names.parent(new)) != root:
        raise Fault(f"{cannot}: cannot move encrypted child outside of its encryption root")
    moved = world.below(old)
    for each in moved:
        _check_length(new + each.name[len(old) :], each.snapshots, cannot)
    for each in moved:
        del pool.datasets[each.name]
        each.name = new + each.name[len(old) :]
        pool.datasets[each.name] = each
    world.tick(top)


def _check_target(world: World, old: str, new: str) -> None:
    cannot = f"cannot rename to '{new}'"
    names.check_dataset(new, cannot)
    above = names.parent(new)
    if not above:
        raise Fault(f"cannot create '{new}': missing dataset name")
    if world.pool_of(new) is None:
        raise Fault(f"cannot create '{new}': no such pool '{names.pool_name(new)}'")
    parent = world.get(above)
    if parent is None:
        raise Fault(f"cannot create '{new}': parent does not exist")
    if parent.is_volume:
        raise Fault(f"cannot create '{new}': parent is not a filesystem")
    if names.pool_name(new) != names.pool_name(old) or "/" not in old:
        raise Fault(f"{cannot}: datasets must be within same pool")
    if new.startswith(f"{old}/"):
        raise Fault(f"{cannot}: New dataset name cannot be a descendant of current dataset name")


def _check_length(name: str, snapshots: Iterable[str], cannot: str) -> None:
    longest = max((len(snap) + 1 for snap in snapshots), default=0)
    if len(name) + longest > names.MAX_NAME or name.count("/") >= names.MAX_DEPTH:
        raise Fault(f"{cannot}: dataset name is too long")


def _encryption_root(world: World, name: str) -> str:
    """Whose key it has, "" when it is not encrypted: the highest encrypted one in a row."""
    root = ""
    while (dataset := world.get(name)) is not None and dataset.local.get("encryption"):
        root, name = name, names.parent(name)
    return root
