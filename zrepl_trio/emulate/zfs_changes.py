"""The emulated `zfs` commands that change something, transfers aside."""

from __future__ import annotations

import os

from zrepl_trio.emulate import holds, mounts, names, receiving, renaming
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import Dataset, Snapshot, World
from zrepl_trio.emulate.options import parse, properties
from zrepl_trio.emulate.properties import check_settable, is_user, known
from zrepl_trio.emulate.usage import usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from zrepl_trio.emulate.store import Store

__all__ = ["COMMANDS", "parse_size"]


def parse_size(text: str) -> int:
    """`16M` and the like in bytes; ValueError when it is none."""
    number, unit = text, ""
    if text[-1:].isalpha():
        stripped = text.rstrip("bBiI")
        if stripped[-1:].isalpha():
            number, unit = stripped[:-1], stripped[-1].upper()
        else:
            number = stripped
    return int(float(number) * 1024 ** ("KMGTPE".index(unit) + 1 if unit else 0))


def _plain_values(values: dict[str, str], cannot: str) -> dict[str, str]:
    """Sizes in bytes, as `-p` prints them."""
    for prop in ("quota", "refquota", "recordsize", "volsize"):
        if prop in values:
            text = values[prop]
            try:
                values[prop] = "0" if text == "none" else str(parse_size(text))
            except ValueError:
                raise Fault(f"{cannot}: bad numeric value '{text}'") from None
    return values


def create(store: Store, words: list[str]) -> None:
    options = parse("create", words, flags="pus", with_value="oVb", unsupported="Pnv")
    if not options.words:
        raise usage_error("create", "missing filesystem argument")
    if len(options.words) > 1:
        raise usage_error("create", "too many arguments")
    name = options.words[0]
    values = properties("create", options.values.get("o", []))
    size = options.last("V")
    volume_size = None
    if size is not None:
        try:
            volume_size = parse_size(size)
        except ValueError:
            raise usage_error("create", f"bad volume size '{size}': bad numeric value") from None
    with store.change() as world:
        if "p" in options.flags:
            if world.get(name) is not None:
                return
            for above in names.ancestors(name):
                if world.get(above) is None:
                    _made(store, world, world.create(above, {}), mounted=True)
        _plain_values(values, f"cannot create '{name}'")
        dataset = world.create(name, values, volume_size=volume_size)
        _made(store, world, dataset, mounted="u" not in options.flags)


def _made(store: Store, world: World, dataset: Dataset, *, mounted: bool) -> None:
    store.make_data(dataset)
    if dataset.is_volume:
        mounts.make_volume(store, dataset, int(dataset.local["volsize"] or 0))
    elif mounted and mounts.can_mount(world, dataset):
        mounts.mount(store, world, dataset)


def destroy(store: Store, words: list[str]) -> str:
    options = parse("destroy", words, flags="rnpvf", unsupported="dR")
    if not options.words:
        raise usage_error("destroy", "missing dataset argument")
    if len(options.words) > 1:
        raise usage_error("destroy", "too many arguments")
    target = options.words[0]
    dataset_name, sign, short = names.split_version(target)
    dry = "n" in options.flags
    if dry and sign != "@":
        raise Fault("the emulated zfs has '-n' of 'destroy' for snapshots only", 2)
    if sign == "@":
        return _destroy_snapshots(store, dataset_name, short, options.flags, dry=dry)
    with store.change() as world:
        if sign == "#":
            world.destroy_bookmark(dataset_name, short)
            store.mark("dirty", world.open(dataset_name))
            return ""
        for each in world.below(target):
            if each.partial is not None and receiving.is_running(store, each):
                raise Fault(f"cannot destroy '{each.name}': dataset is busy")
        _check_not_sent(store, world, target)
        mounted = world.destroy(target, recursive="r" in options.flags)
        for each in mounted:
            mounts.retire(store, each)
    return ""


def _check_not_sent(store: Store, world: World, name: str) -> None:
    for each in world.below(name):
        for snap in each.snapshots.values():
            if store.is_being_sent(each, snap):
                raise Fault(f"cannot destroy snapshot {each.name}@{snap.name}: dataset is busy")


def _destroy_snapshots(
    store: Store, dataset_name: str, spec: str, flags: set[str], *, dry: bool
) -> str:
    with store.change() as world:
        top = world.open(dataset_name)
        targets = world.below(dataset_name) if "r" in flags else [top]
        chosen = {each.name: _named(each, spec) for each in targets}
        if not any(chosen.values()):
            raise Fault("could not find any snapshots to destroy; check snapshot names.")
        said = ""
        if "v" in flags or dry:
            for name, snaps in chosen.items():
                for snap in snaps:
                    would = "would destroy" if dry else "will destroy"
                    said += (
                        f"destroy\t{name}@{snap}\n" if "p" in flags else f"{would} {name}@{snap}\n"
                    )
            freed = sum(
                world.open(n).snapshots[s].size for n, snaps in chosen.items() for s in snaps
            )
            said += f"reclaim\t{freed}\n" if "p" in flags else ""
        if dry:
            return said
        for name, snaps in chosen.items():
            if snaps:
                dataset = world.open(name)
                sent = {s for s in snaps if store.is_being_sent(dataset, dataset.snapshots[s])}
                world.destroy_snapshots(name, snaps, busy=sent)
                store.mark("dirty", dataset)
    return said


def _named(dataset: Dataset, spec: str) -> list[str]:
    """The snapshots that `a,b%c,d` names; those that are missing are left out."""
    order = list(dataset.snapshots)
    found: list[str] = []
    for part in spec.split(","):
        first, sep, last = part.partition("%")
        if not sep:
            found.extend([part] if part in dataset.snapshots else [])
            continue
        begin = order.index(first) if first in order else 0 if not first else len(order)
        end = order.index(last) + 1 if last in order else len(order) if not last else 0
        found.extend(order[begin:end])
    return list(dict.fromkeys(found))


def snapshot(store: Store, words: list[str]) -> None:
    options = parse("snapshot", words, flags="r", with_value="o")
    values = properties("snapshot", options.values.get("o", []))
    if not options.words:
        raise usage_error("snapshot", "missing snapshot argument")
    if any("@" not in word and "#" not in word for word in options.words):
        raise usage_error("snapshot")
    with store.change() as world:
        wanted: list[tuple[str, str]] = []
        for word in options.words:
            dataset, _, name = names.split_version(word)
            below = world.below(dataset) if "r" in options.flags else []
            wanted.extend([(each.name, name) for each in below] or [(dataset, name)])
        try:
            made = world.snapshots(wanted, values)
        except Fault as fault:
            if fault.status == 2:
                raise usage_error("snapshot", fault.text) from fault
            raise
        for dataset_made, snap in made:
            store.freeze(world, dataset_made, snap)


def bookmark(store: Store, words: list[str]) -> None:
    options = parse("bookmark", words, flags="")
    if len(options.words) != 2:
        raise usage_error(
            "bookmark",
            "missing source argument"
            if not options.words
            else "missing bookmark argument"
            if len(options.words) < 2
            else "too many arguments",
        )
    source, target = options.words
    dataset = names.split_version(source)[0]
    if target.startswith("#"):
        target = dataset + target
    with store.change() as world:
        try:
            world.bookmark(source, target)
        except Fault as fault:
            if fault.status == 2:
                raise usage_error("bookmark", fault.text) from fault
            raise


def _snapshot_operands(command: str, words: list[str]) -> list[tuple[str, str]]:
    found = []
    for word in words:
        dataset, sign, name = names.split_version(word)
        if sign != "@":
            raise Fault(f"'{word}' is not a snapshot")
        found.append((dataset, name))
    return found


def hold(store: Store, words: list[str]) -> None:
    options = parse("hold", words, flags="", unsupported="r")
    if len(options.words) < 2:
        raise usage_error("hold")
    tag = options.words[0]
    _holding(store, lambda w: holds.hold(w, tag, _snapshot_operands("hold", options.words[1:])))


def release(store: Store, words: list[str]) -> None:
    options = parse("release", words, flags="", unsupported="r")
    if len(options.words) < 2:
        raise usage_error("release")
    tag = options.words[0]
    _holding(
        store, lambda w: holds.release(w, tag, _snapshot_operands("release", options.words[1:]))
    )


def _holding(store: Store, act: Callable[[World], None]) -> None:
    """Holds of one call are kept even where another of them was refused."""
    refused: Fault | None = None
    with store.change() as world:
        try:
            act(world)
        except Fault as fault:
            refused = fault
    if refused is not None:
        raise refused


def rollback(store: Store, words: list[str]) -> None:
    options = parse("rollback", words, flags="rf", unsupported="R")
    if not options.words:
        raise usage_error("rollback", "missing dataset argument")
    if len(options.words) > 1:
        raise usage_error("rollback", "too many arguments")
    ((dataset_name, name),) = _snapshot_operands("rollback", options.words)
    with store.change() as world:
        dataset = world.get(dataset_name)
        for snap in dataset.snapshots.values() if dataset else ():
            if dataset is not None and snap.name != name and store.is_being_sent(dataset, snap):
                raise Fault(f"cannot destroy '{dataset_name}@{snap.name}': dataset is busy")
        dataset, _ = world.rollback(dataset_name, name, recursive="r" in options.flags)
        store.mark("dirty", dataset)
        store.refresh_live(dataset, None)


def rename(store: Store, words: list[str]) -> None:
    options = parse("rename", words, flags="", unsupported="fpru")
    if len(options.words) != 2:
        raise usage_error(
            "rename",
            "too many arguments"
            if len(options.words) > 2
            else f"missing {'target' if options.words else 'source'} dataset argument",
        )
    source, target = options.words
    dataset_name, sign, name = names.split_version(source)
    new_dataset, new_sign, new_name = names.split_version(target)
    if sign == "":
        _rename_dataset(store, source, target)
        return
    if sign != "@":
        raise Fault(f"cannot open '{source}': bookmark delimiter '#' is not expected here")
    if new_sign == "" and "/" not in target:
        new_dataset, new_name = dataset_name, target
    cannot = f"cannot rename to '{dataset_name}@{new_name}'"
    if new_dataset != dataset_name:
        raise Fault(f"{cannot}: snapshots must be part of same dataset")
    names.check_version(f"{dataset_name}@{new_name}", cannot)
    with store.change() as world:
        world.rename_snapshot(dataset_name, name, new_name)


def _rename_dataset(store: Store, old: str, new: str) -> None:
    with store.change() as world:
        renaming.rename(world, old, new)
        mounts.move_volumes_below(store, world, new)
        mounts.remount_below(store, world, new)


def set_properties(store: Store, words: list[str]) -> None:
    options = parse("set", words, flags="", unsupported="u")
    if not options.words:
        raise usage_error("set", "missing arguments")
    assignments = [word for word in options.words if "=" in word]
    targets = options.words[len(assignments) :]
    if not assignments:
        raise Fault(f"cannot open '{options.words[0]}': dataset does not exist")
    if not targets:
        raise usage_error("set", "missing dataset name(s)")
    values = properties("set", assignments, status=2)
    with store.change() as world:
        for target in targets:
            cannot = f"cannot set property for '{target}'"
            dataset_name, sign, short = names.split_version(target)
            if sign == "@":
                _set_on_snapshot(world, dataset_name, short, values)
                continue
            world.open(target)
            for prop, value in values.items():
                try:
                    check_settable(prop, value, cannot)
                except Fault as fault:
                    raise Fault(fault.text, 255) from fault
            dataset = world.set(target, _plain_values(dict(values), cannot))
            if "volsize" in values and isinstance(dataset.live, str):
                os.truncate(dataset.live, int(dataset.local["volsize"] or 0))
            _placed(store, world, dataset, values.keys())


def _placed(store: Store, world: World, dataset: Dataset, changed: object) -> None:
    assert hasattr(changed, "__contains__")
    if "mountpoint" in changed or "canmount" in changed:
        mounts.remount_below(store, world, dataset.name)


def _set_on_snapshot(world: World, dataset: str, name: str, values: dict[str, str]) -> None:
    full = f"{dataset}@{name}"
    snap = world.get(dataset)
    found: Snapshot | None = snap.snapshots.get(name) if snap else None
    if found is None:
        raise Fault(f"cannot open '{full}': dataset does not exist")
    for prop, value in values.items():
        if not is_user(prop):
            raise Fault(
                f"cannot set property for '{full}': this property can not be modified for snapshots",
                255,
            )
        check_settable(prop, value, f"cannot set property for '{full}'")
        found.props[prop] = value


def inherit(store: Store, words: list[str]) -> None:
    options = parse("inherit", words, flags="S", unsupported="r")
    if not options.words:
        raise usage_error("inherit", "missing property argument")
    if len(options.words) < 2:
        raise usage_error("inherit", "missing dataset argument")
    prop = options.words[0]
    if not known(prop):
        raise usage_error("inherit", f"invalid property '{prop}'")
    with store.change() as world:
        for target in options.words[1:]:
            dataset = world.inherit(target, prop, to_received="S" in options.flags)
            _placed(store, world, dataset, (prop,))


def mount(store: Store, words: list[str]) -> str:
    options = parse("mount", words, flags="a", unsupported="flvORo")
    if not options.words and "a" not in options.flags:
        rows = [(d.name, d.live) for d in store.load().all() if d.mounted]
        return "".join(f"{name:<30}  {live}\n" for name, live in rows)
    with store.change() as world:
        if "a" in options.flags:
            for dataset in list(world.all()):
                if not dataset.mounted and mounts.can_mount(world, dataset):
                    mounts.mount(store, world, dataset)
        for name in options.words:
            mounts.mount(store, world, world.open(name))
    return ""


def unmount(store: Store, words: list[str]) -> None:
    options = parse("unmount", words, flags="f", unsupported="au")
    if len(options.words) != 1:
        raise usage_error("unmount", "missing filesystem argument")
    target = options.words[0]
    with store.change() as world:
        found = [d for d in world.all() if d.mounted and d.live == target]
        dataset = found[0] if found else world.open(target)
        if not dataset.mounted:
            raise Fault(f"cannot unmount '{dataset.name}': not currently mounted")
        mounts.unmount_below(store, world, dataset.name)


def load_key(store: Store, words: list[str]) -> None:
    del store
    if not words:
        raise usage_error("load-key", "Missing dataset argument or -a option")
    raise Fault("the emulated zfs has no keys: its `encryption` property is a flag only")


COMMANDS: dict[str, Callable[[Store, list[str]], str | None]] = {
    "create": create,
    "destroy": destroy,
    "snapshot": snapshot,
    "snap": snapshot,
    "bookmark": bookmark,
    "hold": hold,
    "release": release,
    "rename": rename,
    "rollback": rollback,
    "set": set_properties,
    "inherit": inherit,
    "mount": mount,
    "unmount": unmount,
    "umount": unmount,
    "load-key": load_key,
}
