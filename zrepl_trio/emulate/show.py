"""`zfs list` and `zfs get`: which objects, in which order, printed how."""

from __future__ import annotations

import time

from zrepl_trio.emulate import names, receiving
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import Bookmark, Dataset, Snapshot, World
from zrepl_trio.emulate.options import parse
from zrepl_trio.emulate.properties import NATIVE, READ_ONLY, is_user, known
from zrepl_trio.emulate.usage import usage_error
from zrepl_trio.emulate.values import dataset_value, version_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zrepl_trio.emulate.store import Store

__all__ = ["find", "get_properties", "human_size", "list_datasets", "table"]

_ALIASES = {
    "avail": "available",
    "refer": "referenced",
    "lrefer": "logicalreferenced",
    "ratio": "compressratio",
    "rdonly": "readonly",
    "recsize": "recordsize",
    "compress": "compression",
    "volblock": "volblocksize",
}
_SIZES = frozenset(
    [
        "used",
        "available",
        "referenced",
        "logicalreferenced",
        "written",
        "quota",
        "refquota",
        "recordsize",
        "volsize",
    ]
)
_TYPES = {
    "filesystem": "filesystem",
    "fs": "filesystem",
    "volume": "volume",
    "vol": "volume",
    "snapshot": "snapshot",
    "snap": "snapshot",
    "bookmark": "bookmark",
}
_ALL_TYPES = frozenset(_TYPES.values())

Item = tuple[Dataset, "Snapshot | Bookmark | None"]


def human_size(count: int) -> str:
    """Bytes as zfs prints them: up to four characters and a letter."""
    if count < 1024:
        return f"{count}B"
    power = min((count.bit_length() - 1) // 10, 6)
    letter, value = "BKMGTPE"[power], count / 1024**power
    if count % 1024**power == 0:
        return f"{count // 1024**power}{letter}"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}{letter}"


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Columns padded to their widest cell, two spaces apart."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def find(world: World, name: str) -> Item:
    """The dataset, snapshot or bookmark of that name; a Fault when there is none."""
    dataset_name, sign, short = names.split_version(name)
    dataset = world.get(dataset_name)
    if not sign:
        if dataset is None:
            if not name.startswith("/"):
                names.check_dataset(name, f"cannot open '{name}'")
            raise Fault(
                f"cannot open '{name}': No such file or directory"
                if name.startswith("/")
                else f"cannot open '{name}': dataset does not exist"
            )
        return dataset, None
    versions: dict[str, Snapshot] | dict[str, Bookmark] = {}
    if dataset is not None:
        versions = dataset.snapshots if sign == "@" else dataset.bookmarks
    version = versions.get(short)
    if dataset is None or version is None:
        what = "dataset does not exist" if sign == "@" else "no such pool or dataset"
        raise Fault(f"cannot open '{name}': {what}")
    return dataset, version


def _kind(item: Item) -> str:
    dataset, version = item
    if version is None:
        return "volume" if dataset.is_volume else "filesystem"
    return "snapshot" if isinstance(version, Snapshot) else "bookmark"


def _name(item: Item) -> str:
    dataset, version = item
    if version is None:
        return dataset.name
    return f"{dataset.name}{'@' if isinstance(version, Snapshot) else '#'}{version.name}"


def _items(world: World, dataset: Dataset, types: frozenset[str]) -> list[Item]:
    found: list[Item] = []
    if _kind((dataset, None)) in types:
        found.append((dataset, None))
    if "snapshot" in types:
        found.extend((dataset, snap) for snap in dataset.snapshots.values())
    if "bookmark" in types:
        found.extend((dataset, dataset.bookmarks[name]) for name in sorted(dataset.bookmarks))
    return found


def _select(
    world: World,
    operands: list[str],
    *,
    types: frozenset[str] | None,
    default: frozenset[str],
    depth: int | None,
    versions_of_operand: bool,
) -> tuple[list[Item], list[str]]:
    """What a command shows, and the complaints about operands that are not there.

    `depth` None: not recursive. zfs shows an operand's own snapshots also without -r when only
    snapshots are asked for (`zfs list -t snapshot fs`).
    """
    wanted = types or default
    found: list[Item] = []
    complaints: list[str] = []
    if not operands:
        for dataset in world.all():
            if depth is None or depth < 0 or dataset.name.count("/") <= depth:
                found.extend(_items(world, dataset, wanted))
        return found, complaints
    for operand in operands:
        try:
            item = find(world, operand)
        except Fault as fault:
            complaints.append(fault.text)
            continue
        dataset, version = item
        if version is not None:
            found.append(item)
        elif depth is None:
            if types is None or _kind(item) in wanted:
                found.append(item)
            elif versions_of_operand:
                found.extend(_items(world, dataset, wanted))
        else:
            for each in world.below(operand, depth=depth):
                # A snapshot is one level below its dataset.
                level = each.name.count("/") - operand.count("/")
                own = wanted
                if 0 <= depth <= level:
                    own = wanted - {"snapshot", "bookmark"}
                found.extend(_items(world, each, own))
    unique = {_name(item): item for item in found}
    return sorted(unique.values(), key=_order), complaints


def _order(item: Item) -> tuple[list[str], int, int, str]:
    dataset, version = item
    if version is None:
        return dataset.name.split("/"), 0, 0, ""
    if isinstance(version, Snapshot):
        return dataset.name.split("/"), 1, version.createtxg, version.name
    return dataset.name.split("/"), 2, 0, version.name


def _types(command: str, text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    found: set[str] = set()
    for word in text.split(","):
        if word == "all":
            found |= _ALL_TYPES
        elif word in _TYPES:
            found.add(_TYPES[word])
        else:
            raise usage_error(command, f"invalid type '{word}'")
    return frozenset(found)


def _depth(command: str, options_depth: str | None, *, recursive: bool) -> int | None:
    if options_depth is None:
        return -1 if recursive else None
    if not options_depth.isdecimal():
        raise usage_error(command, f"{options_depth} is not a number")
    return int(options_depth)


class _Values:
    """Values of one world, plain or for people."""

    def __init__(self, store: Store, world: World, *, plain: bool) -> None:
        self._world = world
        self._plain = plain
        self._token: Callable[[Dataset], str | None] = lambda d: receiving.token(store, d)

    def get(self, item: Item, prop: str) -> tuple[str, str] | None:
        dataset, version = item
        found = (
            dataset_value(self._world, dataset, prop, token=self._token)
            if version is None
            else version_value(self._world, dataset, version, prop)
        )
        if found is None or self._plain:
            return found
        value, source = found
        if prop in _SIZES and value.isdecimal():
            quota = prop in {"quota", "refquota"} and value == "0"
            value = "none" if quota else human_size(int(value))
        elif prop == "compressratio":
            value += "x"
        elif prop == "creation":
            value = time.strftime("%a %b %e %H:%M %Y", time.localtime(int(value)))
        return value, source


def list_datasets(store: Store, world: World, words: list[str]) -> tuple[str, list[str]]:
    """`zfs list`: stdout, and complaints for stderr."""
    options = parse("list", words, flags="Hpr", with_value="dostS", unsupported="j")
    types = _types("list", options.last("t"))
    columns_text = options.last("o") or "name,used,avail,refer,mountpoint"
    columns = [_ALIASES.get(word.lower(), word) for word in columns_text.split(",")]
    for column in columns:
        if not known(column):
            raise usage_error("list", f"bad property list: invalid property '{column}'")
    scripted = "H" in options.flags
    depth = _depth("list", options.last("d"), recursive="r" in options.flags)
    items, complaints = _select(
        world,
        options.words,
        types=types,
        default=frozenset({"filesystem", "volume"}),
        depth=depth,
        versions_of_operand=True,
    )
    values = _Values(store, world, plain="p" in options.flags)
    for flag, reverse in (("S", True), ("s", False)):
        for key in reversed(options.values.get(flag, [])):
            items.sort(key=_sort_key(values, _ALIASES.get(key, key)), reverse=reverse)
    if not items and not scripted and not complaints:
        return "", ["no datasets available"]
    rows = [
        [
            _name(item) if column == "name" else (values.get(item, column) or ("-", ""))[0]
            for column in columns
        ]
        for item in items
    ]
    if scripted:
        return "".join("\t".join(row) + "\n" for row in rows), complaints
    if not rows:
        return "", complaints
    heads = [column.upper() for column in columns_text.split(",")]
    right = frozenset(n for n, column in enumerate(columns) if column in _SIZES)
    return table([heads, *rows], right=right), complaints


def _sort_key(values: _Values, prop: str) -> Callable[[Item], tuple[int, int, str]]:
    def key(item: Item) -> tuple[int, int, str]:
        found = values.get(item, prop)
        text = "-" if found is None else found[0]
        return (1, int(text), "") if text.isdecimal() else (0, 0, text)

    return key


_FIELDS = ("name", "property", "value", "received", "source")


def get_properties(store: Store, world: World, words: list[str]) -> tuple[str, list[str]]:
    """`zfs get`: stdout, and complaints for stderr."""
    options = parse("get", words, flags="Hpr", with_value="dots", unsupported="j")
    if not options.words:
        raise usage_error("get", "missing property argument")
    asked, operands = options.words[0], options.words[1:]
    fields = (options.last("o") or "name,property,value,source").split(",")
    if fields == ["all"]:
        fields = list(_FIELDS)
    for field in fields:
        if field not in _FIELDS:
            raise usage_error("get", f"invalid column name '{field}'")
    sources = (options.last("s") or "local,default,inherited,received,temporary,none").split(",")
    props = [_ALIASES.get(word, word) for word in asked.split(",")]
    for prop in props:
        if prop != "all" and not known(prop):
            raise usage_error("get", f"bad property list: invalid property '{prop}'")
    items, complaints = _select(
        world,
        operands,
        types=_types("get", options.last("t")),
        default=_ALL_TYPES,
        depth=_depth("get", options.last("d"), recursive="r" in options.flags),
        versions_of_operand=False,
    )
    scripted = "H" in options.flags
    if not items and not scripted and not complaints:
        return "", ["no datasets available"]
    values = _Values(store, world, plain="p" in options.flags)
    rows = []
    for item in items:
        for prop in _all_of(item) if props == ["all"] else props:
            found = values.get(item, prop)
            if found is None and props == ["all"]:
                continue
            value, source = found or ("-", "-")
            word = "none" if source == "-" else source.split(" ")[0]
            if word not in sources:
                continue
            received = "-" if item[1] else item[0].received.get(prop, "-")
            row = dict(zip(_FIELDS, (_name(item), prop, value, received, source), strict=True))
            rows.append([row[field] for field in fields])
    if scripted:
        return "".join("\t".join(row) + "\n" for row in rows), complaints
    if not rows:
        return "", complaints
    return table([[field.upper() for field in fields], *rows]), complaints


def _all_of(item: Item) -> list[str]:
    dataset, version = item
    own = dataset.local.keys() | dataset.received.keys()
    if isinstance(version, Snapshot):
        own |= version.props.keys()
    hidden = {"name"} if dataset.partial is not None else {"name", "receive_resume_token"}
    return [
        *sorted((READ_ONLY | NATIVE.keys()) - hidden),
        *sorted(prop for prop in own if is_user(prop)),
    ]
