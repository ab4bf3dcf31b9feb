"""Holds of users on snapshots, put there and taken away; what is held, `World` does not destroy."""

from __future__ import annotations

from zrepl_trio.emulate import names
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["hold", "release"]


def hold(world: World, tag: str, wanted: Iterable[tuple[str, str]]) -> None:
    """`zfs hold TAG fs@snap...`: all that exist, or none if one has the tag already."""
    pairs = list(wanted)
    there = [(world.open(dataset_name), name) for dataset_name, name in pairs]
    if len(tag.encode("utf-8", "surrogateescape")) > names.MAX_NAME:
        raise Fault("\n".join(f"cannot hold snapshot '{d}@{n}': tag too long" for d, n in pairs))
    refused = [
        f"cannot hold snapshot '{dataset_name}@{name}': tag already exists on this dataset"
        for (dataset, name), (dataset_name, _) in zip(there, pairs, strict=True)
        if name in dataset.snapshots and tag in dataset.snapshots[name].holds
    ]
    now = world.clock()
    for dataset, name in there if not refused else ():
        if name in dataset.snapshots:
            dataset.snapshots[name].holds[tag] = now
            dataset.snapshots[name].shown = None
            world.tick(dataset)
        else:
            full = f"{dataset.name}@{name}"
            refused.append(f"cannot hold snapshot '{full}': dataset does not exist")
    if refused:
        raise Fault("\n".join(refused))


def release(world: World, tag: str, wanted: Iterable[tuple[str, str]]) -> None:
    """`zfs release TAG fs@snap...`: those that can be are released; the rest is a Fault."""
    pairs = list(wanted)
    refused = []
    there = [(world.open(dataset_name), name) for dataset_name, name in pairs]
    for dataset, name in there:
        cannot = f"cannot release hold from snapshot '{dataset.name}@{name}'"
        if name not in dataset.snapshots:
            refused.append(f"{cannot}: dataset does not exist")
        elif tag not in dataset.snapshots[name].holds:
            refused.append(f"{cannot}: no such tag on this dataset")
        else:
            del dataset.snapshots[name].holds[tag]
            dataset.snapshots[name].shown = None
            world.tick(dataset)
    if refused:
        raise Fault("\n".join(refused))
