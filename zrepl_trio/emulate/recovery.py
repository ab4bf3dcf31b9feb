"""Mending what a killed command left half done; run under the lock, before each change.

Three marks tell of it, each made before the danger and removed after:

    dirty.KEY    data that nothing refers to may be there
    stale.KEY    live files may not be what the newest snapshot has, though they should be
    moving.KEY   the live directory was about to be renamed (text: from, NUL, to)
"""

from __future__ import annotations

import os

from zrepl_trio.emulate import receiving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zrepl_trio.emulate.model import World
    from zrepl_trio.emulate.store import Store

__all__ = ["finish", "recover"]


def recover(store: Store, world: World) -> None:
    """Undo or finish what was interrupted; `world` is as it was saved last."""
    by_key = {dataset.key: dataset for dataset in world.all()}
    for kind, key, path in store.marks():
        dataset = by_key.get(key)
        if kind == "moving":
            with open(path, "rb") as file:
                source, _, target = file.read().decode("utf-8", "surrogateescape").partition("\0")
            if os.path.lexists(target) and not os.path.lexists(source):
                os.rename(target, source)
        elif kind == "stale" and dataset is not None:
            store.make_live(world, dataset, None)
        elif kind == "dirty":
            continue
        os.unlink(path)
    for dataset in list(by_key.values()):
        if receiving.is_abandoned(store, dataset):
            receiving.drop(store, world, dataset)


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
