"""Where a sender's dataset lives under the receiver's root, and back.

The wire always carries the sender's names. Whatever a peer says becomes a path strictly below
`root_fs[/IDENTITY]`, or a refusal. Between the two stands the job's `recv.target`.
"""

from __future__ import annotations

from dataclasses import dataclass

from zrepl_trio.errors import Refused
from zrepl_trio.zfs.names import (
    MAX_NAME_BYTES,
    DatasetPath,
    Identity,
    InvalidName,
    check_snapshot_name,
)
from zrepl_trio.zfs.targets import WHOLE, NoPlace, TargetRules

__all__ = ["Confinement"]


@dataclass(frozen=True, slots=True)
class Confinement:
    """One receiving job's root, with the client's identity below it where the job has one."""

    root: DatasetPath
    identity: Identity | None = None
    targets: TargetRules = WHOLE

    @property
    def client_root(self) -> DatasetPath:
        """The dataset that holds all of this client's data."""
        return self.root if self.identity is None else self.root.child(self.identity)

    def local(self, wire: str) -> DatasetPath:
        """The replica's path of the sender's dataset `wire`; Refused when it cannot be one."""
        try:
            # parsed again although callers hold checked paths: this is the border
            return self.client_root.child(self.targets.place(DatasetPath.parse(wire)))
        except (InvalidName, NoPlace) as error:
            raise Refused(f"cannot place {wire[:80]!r} below {self.client_root}: {error}") from None

    def place_or_why_not(self, wire: str) -> DatasetPath | Refused:
        """`local`, with the refusal as a value."""
        try:
            return self.local(wire)
        except Refused as error:
            return error

    def local_snapshot(self, wire: str, snapshot: str) -> DatasetPath:
        """`local(wire)`, if `snapshot` can be received there: name legal, in all ≤ 255 bytes."""
        path = self.local(wire)
        try:
            check_snapshot_name(snapshot)
        except InvalidName as error:
            raise Refused(f"cannot receive into {path}: {error}") from None
        length = len(path) + 1 + len(snapshot)
        if length > MAX_NAME_BYTES:
            raise Refused(
                f"cannot receive {path}@{snapshot}: its name has {length} bytes "
                f"({MAX_NAME_BYTES} are possible): use a shorter root_fs or snapshot prefix"
            )
        return path

    def wire(self, local: DatasetPath) -> DatasetPath | None:
        """The sender's name of the replica at `local`, None where `local()` puts nothing."""
        client_root = self.client_root
        if not local.is_below(client_root):
            return None
        return self.targets.wire(local.relative_to(client_root))
