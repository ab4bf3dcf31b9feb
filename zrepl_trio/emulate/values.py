"""What `zfs get` and `zfs list` show: every property of a dataset, snapshot or bookmark."""

from __future__ import annotations

from zrepl_trio.emulate import names
from zrepl_trio.emulate.model import Bookmark, Dataset, Snapshot, World
from zrepl_trio.emulate.properties import NATIVE, WRITTEN_SINCE, is_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["dataset_value", "version_value"]


def dataset_value(
    world: World, dataset: Dataset, prop: str, *, token: Callable[[Dataset], str | None]
) -> tuple[str, str] | None:
    """Value (`-p` form) and source of a dataset's property; None when it has no such property.

    `token` gives the resume token of a partly received dataset.
    """
    if is_user(prop):
        return world.value(dataset, prop)
    if prop.startswith(WRITTEN_SINCE):
        return _written_since(world, dataset, prop.removeprefix(WRITTEN_SINCE))
    if prop == "mountpoint":
        return None if dataset.is_volume else world.mountpoint(dataset)
    if prop == "encryption":
        return dataset.local.get("encryption") or "off", "default" if not dataset.local.get(
            "encryption"
        ) else "-"
    if prop in NATIVE:
        value = world.value(dataset, prop)
        return None if value[1] == "-" else value
    plain = _computed(world, dataset, prop, token)
    return None if plain is None else (plain, "-")


def _computed(
    world: World, dataset: Dataset, prop: str, token: Callable[[Dataset], str | None]
) -> str | None:
    encrypted = bool(dataset.local.get("encryption"))
    if prop == "name":
        return dataset.name
    if prop == "type":
        return "volume" if dataset.is_volume else "filesystem"
    if prop == "guid":
        return str(dataset.guid)
    if prop == "compressratio":
        return "1.00"
    if prop in {"createtxg", "objsetid"}:
        return str(dataset.createtxg)
    if prop == "creation":
        return str(dataset.creation)
    if prop == "used":
        return str(world.used(dataset))
    if prop == "available":
        return str(world.room(dataset.name)[0])
    if prop in {"referenced", "logicalreferenced"}:
        return str(world.sizes(dataset)[0])
    if prop == "written":
        return str(world.sizes(dataset)[1])
    if prop == "mounted":
        return None if dataset.is_volume else "yes" if dataset.mounted else "no"
    if prop == "receive_resume_token":
        # Unlike user properties, zfs get shows a row with `-` for a dataset without one.
        return token(dataset) or "-"
    if prop == "keystatus":
        return "available" if encrypted else "-"
    if prop == "encryptionroot":
        return _encryption_root(world, dataset) if encrypted else "-"
    return None


def _written_since(world: World, dataset: Dataset, name: str) -> tuple[str, str]:
    order = list(dataset.snapshots)
    if name not in order:
        return "-", "-"
    later = order[order.index(name) + 1 :]
    total = sum(dataset.snapshots[each].size for each in later) + world.sizes(dataset)[1]
    return str(total), "local"


def _encryption_root(world: World, dataset: Dataset) -> str:
    walk: Dataset | None = dataset
    while walk is not None and "encryptionroot" not in walk.local:
        walk = world.get(names.parent(walk.name))
    return walk.name if walk is not None else dataset.name


def version_value(
    world: World, dataset: Dataset, version: Snapshot | Bookmark, prop: str
) -> tuple[str, str] | None:
    """The same of a snapshot or bookmark."""
    is_snapshot = isinstance(version, Snapshot)
    if prop == "name":
        return f"{dataset.name}{'@' if is_snapshot else '#'}{version.name}", "-"
    if prop == "type":
        return "snapshot" if is_snapshot else "bookmark", "-"
    if prop in {"guid", "createtxg", "creation"}:
        return str(getattr(version, prop)), "-"
    if not isinstance(version, Snapshot):
        return ("-", "-") if is_user(prop) else None
    if is_user(prop):
        if prop in version.props:
            return version.props[prop], "local"
        value, source = world.value(dataset, prop)
        return value, f"inherited from {dataset.name}" if source in {
            "local",
            "received",
        } else source
    if prop == "userrefs":
        return str(len(version.holds)), "-"
    if prop in {"used", "referenced", "logicalreferenced", "written"}:
        return str(version.size), "-"
    if prop == "defer_destroy":
        return "off", "-"
    if prop == "encryption":
        return dataset_value(world, dataset, prop, token=lambda _: None)
    return None
