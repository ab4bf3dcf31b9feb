"""Mending what a killed command left half done; run under the lock, before each change.

Three marks tell of it, each made before the danger and removed after:

    dirty.KEY    data that nothing refers to may be there
    stale.KEY    live files may not be what the newest snapshot has, though they should be
    moving.KEY   the live directory was about to be renamed (text: where it was, and where to,
                 NUL between)
"""

from __future__ import annotations

import os

from zrepl_trio.emulate import receiving, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zrepl_trio.emulate.model import Dataset, World
    from zrepl_trio.emulate.store import Store

__all__ = ["finish", "recover"]


def recover(store: Store, world: World) -> None:
    """Bring live files to where and what `world`, as it was saved last, says they are."""
    by_key = {dataset.key: dataset for dataset in world.all()}
    todo: list[tuple[str, list[str], Dataset]] = []
    for kind, key, path in store.marks():
        dataset = by_key.get(key)
        if path.endswith("~"):
            continue  # the note was being written, so nothing was done yet
        places: list[str] = []
        if kind == "moving":
            with open(path, "rb") as file:
                places = file.read().decode("utf-8", "surrogateescape").split("\0")
        if dataset is not None and isinstance(dataset.live, str):
            if kind != "dirty":
                todo.append((dataset.live, places, dataset))
        elif places and places[0].startswith(store.private) and not os.path.lexists(places[0]):
            # Made for a mount that was not saved: nothing else is known of it.
            for place in places[1:]:
                trees.remove_tree(place)
    # Parents come back before what is mounted in them.
    todo.sort(key=lambda each: each[0].count("/"))
    for wanted, places, dataset in todo:
        for place in places:
            if place != wanted:
                _move_back(place, wanted)
        if not places:
            store.make_live(world, dataset, None)
    for kind, _, path in store.marks():
        if kind != "dirty":
            os.unlink(path)
    for dataset in by_key.values():
        if receiving.is_abandoned(store, dataset):
            receiving.drop(store, world, dataset)


def _move_back(source: str, target: str) -> None:
    if not os.path.lexists(source):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.rename(source, target)
    except OSError:
        # It never left: what is at `source` is something else, and `target` is not empty.
        return


def finish(store: Store, world: World) -> None:
    """After `world` was saved: bring live files up to it, remove what nothing refers to."""
    by_key = {dataset.key: dataset for dataset in world.all()}
    destroyed = False
    for kind, key, path in store.marks():
        dataset = by_key.get(key)
        if kind == "stale" and dataset is not None:
            store.make_live(world, dataset, store.known_live.get(key))
        elif kind == "dirty" and dataset is not None:
            store.sweep(dataset)
        elif kind == "dirty":
            destroyed = True
        os.unlink(path)
    if destroyed:
        store.sweep_destroyed(world)
