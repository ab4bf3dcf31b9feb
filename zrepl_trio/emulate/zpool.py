"""The emulated `zpool`: pools need no device; a file given as one says how much they hold."""

from __future__ import annotations

import os

from zrepl_trio.emulate import mounts
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.options import parse, properties
from zrepl_trio.emulate.properties import check_settable
from zrepl_trio.emulate.show import human_size, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from zrepl_trio.emulate.model import Pool, World
    from zrepl_trio.emulate.store import Store

__all__ = ["COMMANDS"]

_RESERVED = ("mirror", "raidz", "draid", "spare", "log")
_UNLIMITED = 1 << 50


def _wrong(command: str, problem: str) -> Fault:
    return Fault(f"{problem}\nusage: see `zpool {command}` in zpool(8)", 2)


def _check_name(name: str) -> None:
    cannot, hint = f"cannot create '{name}'", "\npool name may have been omitted"
    if name in _RESERVED or name.startswith(("mirror", "raidz", "draid", "spare")):
        raise Fault(f"{cannot}: name is reserved{hint}")
    if not name[:1].isalpha():
        raise Fault(f"{cannot}: name must begin with a letter{hint}")
    for char in name:
        if not (char.isascii() and (char.isalnum() or char in "-_.: ")):
            raise Fault(f"{cannot}: invalid character '{char}' in pool name{hint}")


def create(store: Store, words: list[str]) -> None:
    options = parse("create", words, flags="f", with_value="mOo", unsupported="ndRt", error=_wrong)
    if not options.words:
        raise _wrong("create", "missing pool name argument")
    name, devices = options.words[0], options.words[1:]
    _check_name(name)
    capacity = _UNLIMITED if not devices else 0
    for device in devices:
        if not os.path.isfile(device):
            raise Fault(f"cannot resolve path '{device}'")
        capacity += os.stat(device).st_size
    place = options.last("m")
    with store.change() as world:
        root = world.create_pool(
            name, capacity=capacity, root_mountpoint=f"{store.directory}/{name}"
        )
        if place is not None:
            root.local["mountpoint"] = place
        for prop, value in properties("create", options.values.get("O", [])).items():
            check_settable(prop, value, f"cannot create '{name}'")
            root.local[prop] = value
        store.make_data(root)
        if mounts.can_mount(world, root):
            mounts.mount(store, world, root)


def destroy(store: Store, words: list[str]) -> None:
    options = parse("destroy", words, flags="f", error=_wrong)
    if len(options.words) != 1:
        raise _wrong("destroy", "missing pool argument")
    name = options.words[0]
    if "/" in name:
        raise Fault(
            f"cannot open '{name}': invalid character '/' in pool name\n"
            "use 'zfs destroy' to destroy a dataset"
        )
    with store.change() as world:
        _pool(world, name)
        for dataset in reversed(world.below(name)):
            mounts.retire(store, dataset)
        del world.pools[name]


def _pool(world: World, name: str) -> Pool:
    if name not in world.pools:
        raise Fault(f"cannot open '{name}': no such pool")
    return world.pools[name]


def _value(world: World, pool: Pool, prop: str) -> str | None:
    used = world.used(pool.datasets[pool.name])
    known = {
        "name": pool.name,
        "size": str(pool.capacity),
        "allocated": str(used),
        "free": str(max(pool.capacity - used, 0)),
        "capacity": str(used * 100 // max(pool.capacity, 1)),
        "health": "ONLINE",
        "guid": str(pool.guid),
        "dedupratio": "1.00",
        "altroot": "-",
        "readonly": "off",
        "ashift": "0",
        "feature@extensible_dataset": "active",
        "feature@bookmarks": "enabled",
        "feature@bookmark_v2": "enabled",
        "feature@encryption": "disabled",
    }
    return known.get(prop)


_ALIASES = {"alloc": "allocated", "cap": "capacity", "dedup": "dedupratio"}


def list_pools(store: Store, words: list[str]) -> str:
    options = parse("list", words, flags="Hp", with_value="o", unsupported="vLPgTj", error=_wrong)
    world = store.load()
    wanted = options.words or sorted(world.pools)
    columns = (options.last("o") or "name,size,alloc,free,cap,health").split(",")
    rows = []
    for name in wanted:
        pool = _pool(world, name)
        row = []
        for column in columns:
            prop = _ALIASES.get(column, column)
            value = _value(world, pool, prop)
            if value is None:
                raise _wrong("list", f"bad property list: invalid property '{column}'")
            if "p" not in options.flags and prop in {"size", "allocated", "free"}:
                value = human_size(int(value))
            row.append(value)
        rows.append(row)
    if "H" in options.flags:
        return "".join("\t".join(row) + "\n" for row in rows)
    return table([[c.upper() for c in columns], *rows]) if rows else "no pools available\n"


def get(store: Store, words: list[str]) -> str:
    options = parse("get", words, flags="Hp", with_value="o", unsupported="j", error=_wrong)
    if not options.words:
        raise _wrong("get", "missing property argument")
    fields = (options.last("o") or "name,property,value,source").split(",")
    world = store.load()
    rows = []
    for name in options.words[1:] or sorted(world.pools):
        if name not in world.pools:
            raise Fault(f"Cannot get properties of {name}: no such pool available.")
        for prop in options.words[0].split(","):
            value = _value(world, world.pools[name], prop)
            if value is None and prop.startswith("feature@"):
                continue
            if value is None:
                raise _wrong("get", f"bad property list: invalid property '{prop}'")
            source = "local" if prop.startswith("feature@") else "-"
            row = {"name": name, "property": prop, "value": value, "source": source}
            rows.append([row.get(field, "-") for field in fields])
    if "H" in options.flags:
        return "".join("\t".join(row) + "\n" for row in rows)
    return table([[f.upper() for f in fields], *rows]) if rows else ""


def status(store: Store, words: list[str]) -> str:
    options = parse("status", words, flags="", unsupported="vxLPgTjstdDipe", error=_wrong)
    world = store.load()
    if not world.pools:
        return "no pools available\n"
    blocks = []
    for name in options.words or sorted(world.pools):
        _pool(world, name)
        blocks.append(
            f"  pool: {name}\n state: ONLINE\nconfig:\n\n"
            f"\tNAME        STATE     READ WRITE CKSUM\n\t{name:<10}  ONLINE       0     0     0\n\n"
            "errors: No known data errors\n"
        )
    return "\n".join(blocks)


COMMANDS: dict[str, Callable[[Store, list[str]], str | None]] = {
    "create": create,
    "destroy": destroy,
    "list": list_pools,
    "get": get,
    "status": status,
}
