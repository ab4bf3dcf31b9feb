"""What may be received where: zfs's rules, without the data.

Pure, on `model.World`. A holder admits a stream with `admit`, moves the data itself, and ends with
`complete` or `keep`. For what may be sent see `sending`.
"""

from __future__ import annotations

from zrepl_trio.emulate import names, refusals
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import Dataset, Partial, Snapshot, World
from zrepl_trio.emulate.properties import check_settable, default_of, is_user
from zrepl_trio.emulate.refusals import cannot_receive, kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "Admission",
    "admit",
    "apply_properties",
    "check_override",
    "complete",
    "drop_created",
    "keep",
]


class Admission:
    """A stream that may be received into `dataset`; `created` when it was made for it.

    `is_there`: the very snapshot exists already, and the stream is taken without effect.
    """

    __slots__ = ("base", "begin", "created", "dataset", "is_there", "kind", "snapshot")

    def __init__(
        self,
        dataset: Dataset,
        snapshot: str,
        begin: dict[str, str],
        base: Snapshot | None,
        *,
        created: bool,
        is_there: bool = False,
    ) -> None:
        self.dataset = dataset
        self.is_there = is_there
        self.snapshot = snapshot
        self.begin = begin
        self.base = base
        self.created = created
        self.kind = kind_of(begin)

    @property
    def resumes(self) -> bool:
        """Whether the stream sets in after its beginning."""
        return "resuming" in self.begin


def admit(
    world: World,
    target: str,
    begin: dict[str, str],
    *,
    force: bool,
    partial_offset: int | None,
    unchanged_since: Callable[[Dataset, Snapshot], bool],
) -> Admission:
    """Check that the stream fits there and make the dataset if it is to be new.

    `partial_offset`: how far the dataset's partly received state goes, None without one, and while a
    receive is at it; `unchanged_since` tells whether a dataset's live files are still those of a snapshot.
    """
    cannot = cannot_receive(begin)
    dataset_name, _, snapshot = names.split_version(target)
    try:
        names.check_version(target, cannot)
    except Fault as fault:
        if "%" in target:
            raise Fault(
                f"{cannot}: kernel modules must be upgraded to receive this stream."
            ) from fault
        raise Fault("cannot receive: invalid name") from fault
    dataset = world.get(dataset_name)
    if "resuming" in begin:
        if dataset is None:
            raise Fault(f"{cannot}: destination '{dataset_name}' does not exist")
        return _admit_resumed(dataset, snapshot, begin, partial_offset, force=force)
    if "fromguid" in begin:
        if dataset is None:
            raise Fault(f"{cannot}: destination '{dataset_name}' does not exist")
        there = dataset.snapshots.get(snapshot)
        if there is not None and str(there.guid) == begin["toguid"]:
            return Admission(dataset, snapshot, begin, None, created=False, is_there=True)
        if (partial := dataset.partial) is not None:
            raise refusals.partly_received(begin, dataset_name, resumable=partial.resumable)
        base = _incremental_base(dataset, begin, unchanged_since, force=force)
        return Admission(dataset, snapshot, begin, base, created=False)
    if dataset is not None:
        _check_overwrite(dataset, begin, cannot, force=force)
        return Admission(dataset, snapshot, begin, None, created=False)
    return Admission(_new_dataset(world, dataset_name, begin), snapshot, begin, None, created=True)


def check_override(begin: Mapping[str, str], override: Mapping[str, str]) -> None:
    """A Fault unless `-o` values may be set on what the stream makes."""
    cannot = cannot_receive(begin)
    is_volume = begin.get("type") == "volume"
    for prop, value in override.items():
        if not is_user(prop) and default_of(prop, is_volume=is_volume) is None:
            raise Fault(f"{cannot}: property '{prop}' does not apply to datasets of this type")
        try:
            check_settable(prop, value, cannot)
        except Fault as fault:
            raise Fault(f"{fault.text}\n{cannot}: invalid property value") from fault


def _new_dataset(world: World, name: str, begin: Mapping[str, str]) -> Dataset:
    parent_name = names.parent(name)
    parent = world.get(parent_name)
    if parent is None:
        raise Fault(
            f"cannot open '{parent_name or name}': dataset does not exist\n"
            f"{cannot_receive(begin)}: unable to restore to destination"
        )
    if parent.is_volume:
        raise Fault(f"{cannot_receive(begin)}: parent '{parent.name}' is not a filesystem")
    made = world.add(name, world.new_guid(), is_volume=begin.get("type") == "volume")
    if "encrypted" in begin:
        made.local["encryption"] = "aes-256-gcm"
        made.local["encryptionroot"] = "self"
        made.local["keylocation"] = "prompt"
    else:
        world.settle_encryption(made)
    if "volsize" in begin:
        made.local["volsize"] = begin["volsize"]
    return made


def _admit_resumed(
    dataset: Dataset,
    snapshot: str,
    begin: dict[str, str],
    partial_offset: int | None,
    *,
    force: bool,
) -> Admission:
    cannot = cannot_receive(begin)
    partial = dataset.partial
    if partial is not None and partial_offset is None:
        raise refusals.partly_received(begin, dataset.name)
    same = partial is not None and all(
        partial.begin.get(key) == begin.get(key) for key in ("toguid", "fromguid")
    )
    if partial is None or not same or int(begin["offset"]) != partial_offset:
        raise Fault(f"{cannot}: kernel modules must be upgraded to receive this stream.")
    if not partial.created and "fromguid" not in begin and not force:
        raise Fault(
            f"{cannot}: Resuming recv on existing destination '{dataset.name}'\n"
            "must specify -F to overwrite it"
        )
    base = dataset.snapshot_by_guid(int(begin["fromguid"])) if "fromguid" in begin else None
    return Admission(dataset, snapshot, begin, base, created=False)


def _incremental_base(
    dataset: Dataset,
    begin: Mapping[str, str],
    unchanged_since: Callable[[Dataset, Snapshot], bool],
    *,
    force: bool,
) -> Snapshot:
    base = dataset.snapshot_by_guid(int(begin["fromguid"]))
    if base is None:
        raise Fault(
            f"{cannot_receive(begin)}: most recent snapshot of {dataset.name} does not\n"
            "match incremental source"
        )
    # Newer snapshots alone are no obstacle, as long as nothing in them was written.
    if not force and not unchanged_since(dataset, base):
        raise refusals.diverged(begin, dataset.name)
    return base


def _check_overwrite(
    dataset: Dataset, begin: Mapping[str, str], cannot: str, *, force: bool
) -> None:
    if not force:
        raise Fault(
            f"{cannot}: destination '{dataset.name}' exists\nmust specify -F to overwrite it"
        )
    if dataset.snapshots:
        raise Fault(
            f"{cannot}: destination has snapshots (eg. {dataset.name}@"
            f"{next(iter(dataset.snapshots))})\nmust destroy them to overwrite it"
        )
    if dataset.partial is not None:
        raise refusals.partly_received(begin, dataset.name)
    if ("encrypted" in begin) != bool(dataset.local.get("encryption")):
        raise Fault(
            f"{cannot}: zfs receive -F cannot be used to destroy an encrypted filesystem"
            " or overwrite an unencrypted one with an encrypted one"
        )


def apply_properties(
    world: World,
    admission: Admission,
    *,
    exclude: tuple[str, ...],
    override: Mapping[str, str],
) -> None:
    """Enter the stream's properties as received, then `-x` and `-o` on top."""
    dataset = admission.dataset
    for key, value in admission.begin.items():
        if key.startswith("prop."):
            dataset.received[key[5:]] = value
    for prop in exclude:
        if prop in dataset.received and prop not in dataset.local:
            dataset.local[prop] = None
    dataset.local.update(override)
    world.tick(dataset)


def complete(
    world: World, admission: Admission, content: object, size: int, *, force: bool
) -> tuple[Snapshot, list[Snapshot]]:
    """Enter the received snapshot; also what `-F` rolled back over."""
    dataset = admission.dataset
    begin = admission.begin
    rolled = []
    if admission.base is not None and force:
        order = list(dataset.snapshots)
        newer = order[order.index(admission.base.name) + 1 :]
        rolled = [dataset.snapshots.pop(name) for name in newer]
    snap = Snapshot(
        admission.snapshot,
        int(begin["toguid"]),
        world.tick(dataset),
        int(begin["creation"]),
        content,
    )
    snap.size = size
    for key, value in begin.items():
        if key.startswith("snapprop."):
            snap.props[key[9:]] = value
    dataset.snapshots[snap.name] = snap
    dataset.partial = None
    dataset.head = content
    dataset.size = 0
    return snap, rolled


def drop_created(world: World, dataset: Dataset) -> None:
    """Take a dataset out again that was made for a receive that failed."""
    world.pool(dataset).datasets.pop(dataset.name, None)


def keep(admission: Admission, *, resumable: bool, content: object = None) -> None:
    """Note on the dataset that a receive into it began."""
    if admission.dataset.partial is None:
        admission.dataset.partial = Partial(
            dict(admission.begin),
            admission.snapshot,
            resumable=resumable,
            created=admission.created,
            content=content,
        )
