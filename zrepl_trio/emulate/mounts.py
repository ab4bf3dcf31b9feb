"""Mounting: a filesystem's live files as a plain directory at its mountpoint.

An unmounted filesystem has no directory unless it was changed since its newest snapshot; then the
directory waits among its data.
"""

from __future__ import annotations

import os

from zrepl_trio.emulate import trees
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import Dataset, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zrepl_trio.emulate.store import Store

__all__ = [
    "can_mount",
    "make_volume",
    "mount",
    "move_volumes_below",
    "remount_below",
    "retire",
    "unmount",
    "unmount_below",
]


def can_mount(world: World, dataset: Dataset) -> bool:
    """Whether zfs mounts it by itself."""
    return (
        not dataset.is_volume
        and world.value(dataset, "canmount")[0] == "on"
        and world.mountpoint(dataset)[0] not in {"none", "legacy"}
    )


def mount(store: Store, world: World, dataset: Dataset) -> None:
    """`zfs mount`."""
    cannot = f"cannot mount '{dataset.name}'"
    if dataset.is_volume:
        raise Fault(
            f"cannot open '{dataset.name}': operation not applicable to datasets of this type"
        )
    if dataset.mounted:
        raise Fault(f"{cannot}: filesystem already mounted")
    path = world.mountpoint(dataset)[0]
    if path == "legacy":
        raise Fault(f"{cannot}: legacy mountpoint\nuse mount(8) to mount this filesystem")
    if path == "none":
        raise Fault(f"{cannot}: no mountpoint set")
    if world.value(dataset, "canmount")[0] == "off":
        raise Fault(f"{cannot}: 'canmount' property is set to 'off'")
    # Real ones would be mounted over; ours have to step aside and come back inside.
    inside = [d for d in world.all() if d.mounted and str(d.live).startswith(path + "/")]
    for other in reversed(inside):
        unmount(store, world, other)
    if os.path.isdir(path):
        try:
            os.rmdir(path)
        except OSError as error:
            raise Fault(f"{cannot}: directory '{path}' is not empty") from error
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not isinstance(dataset.live, str):
        # Made aside, as a half-made directory in its place would count as the parent's data.
        dataset.live = f"{store.data(dataset)}/live.new"
        trees.remove_tree(dataset.live)
        store.make_live(world, dataset, None)
    _move(store, dataset, dataset.live, path)
    dataset.mounted = True
    for other in inside:
        mount(store, world, other)


def unmount(store: Store, world: World, dataset: Dataset) -> None:
    """`zfs unmount` of one."""
    if not dataset.mounted or not isinstance(dataset.live, str):
        raise Fault(f"cannot unmount '{dataset.name}': not currently mounted")
    if store.is_modified(world, dataset):
        _move(store, dataset, dataset.live, f"{store.data(dataset)}/live")
    else:
        store.mark("stale", dataset)
        trees.remove_tree(dataset.live)
        dataset.live = None
    dataset.mounted = False


def retire(store: Store, dataset: Dataset) -> None:
    """Put a destroyed dataset's live files among its data, which goes once this is saved."""
    store.mark("dirty", dataset)
    if isinstance(dataset.live, str) and (dataset.mounted or dataset.is_volume):
        _move(store, dataset, dataset.live, f"{store.data(dataset)}/live")


def _move(store: Store, dataset: Dataset, source: str, target: str) -> None:
    """Rename the live files. All places of this change are noted, as any may be the last."""
    places = store.noted("moving", dataset) or source
    store.mark("moving", dataset, f"{places}\0{target}")
    os.rename(source, target)
    dataset.live = target


def unmount_below(store: Store, world: World, name: str) -> list[Dataset]:
    """Unmount a dataset and all below it, children first; those that were mounted."""
    mounted = [dataset for dataset in world.below(name) if dataset.mounted]
    for dataset in reversed(mounted):
        unmount(store, world, dataset)
    return mounted


def remount_below(store: Store, world: World, name: str) -> None:
    """After a change of `mountpoint` or `canmount`: move what is mounted to where it belongs."""
    moved = [
        dataset
        for dataset in world.below(name)
        if dataset.mounted and dataset.live != world.mountpoint(dataset)[0]
    ]
    # With one go those below it, which may be where they belong; they come back as well.
    away = {each.name: each for one in moved for each in world.below(one.name) if each.mounted}
    for dataset in reversed(away.values()):
        unmount(store, world, dataset)
    for dataset in away.values():
        if can_mount(world, dataset):
            mount(store, world, dataset)


def make_volume(store: Store, dataset: Dataset, size: int) -> None:
    """Make the file that stands for a volume's device."""
    path = _device(store, dataset)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    dataset.live = path


def move_volumes_below(store: Store, world: World, name: str) -> None:
    """After a rename: move the files of volumes to where their names put them."""
    for dataset in world.below(name):
        if dataset.is_volume and isinstance(dataset.live, str):
            source, target = dataset.live, _device(store, dataset)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _move(store, dataset, source, target)
            try:
                # An empty directory would be in the way of a volume with its name.
                os.removedirs(os.path.dirname(source))
            except OSError:
                continue


def _device(store: Store, dataset: Dataset) -> str:
    return f"{store.directory}/dev/zvol/{dataset.name}"
