"""What a received stream may not set on the receiving host.

A stream sent with properties could mount itself over /etc, share itself, bring setuid programs
or reserve the whole pool. Such properties are excluded (`zfs recv -x`) unless the job names
them: in `recv.properties.inherit` or `override` as in zrepl, or as accepted from the sender.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from zrepl_trio.endpoint.placeholders import NO_LONGER
from zrepl_trio.errors import Refused
from zrepl_trio.zfs.argv import PLACEHOLDER, SOURCE_GUID

__all__ = [
    "ACTING_ON_FILESYSTEMS",
    "ACTING_ON_VOLUMES",
    "HARMLESS_KEY_LOCATIONS",
    "KEY_LOCATION",
    "ReceivedProperties",
]

ACTING_ON_VOLUMES = ("readonly", "volmode", "snapdev", "reservation", "refreservation")
"""zfsprops(7) properties that act on a host by a volume: `volmode` and `snapdev` let it scan the
volume's partitions."""

ACTING_ON_FILESYSTEMS = (
    "mountpoint",
    "canmount",
    "overlay",
    "readonly",
    "exec",
    "setuid",
    "devices",
    "nbmand",
    "sharenfs",
    "sharesmb",
    "vscan",
    "context",
    "fscontext",
    "defcontext",
    "rootcontext",
    "reservation",
    "refreservation",
    "volmode",
    "snapdev",
)
"""Those of filesystems: where and how one is mounted, who may run or reach what is in it, and what
it takes from its neighbours; and those that volumes below it would inherit, to which `-x` on the
volume would just lead."""

KEY_LOCATION = "keylocation"
"""Of a raw stream sent with properties: where `zfs load-key` here would read or fetch a key from.
`-x` does not keep it out (seen on OpenZFS 2.3.9), so it is set back after the receive."""

HARMLESS_KEY_LOCATIONS = frozenset({"prompt", "none", "-"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedProperties:
    """The job's rules: `inherit` is always excluded, `override` set to a value of ours, `accept`
    taken from the sender although it acts here. Raises Refused when they contradict."""

    inherit: tuple[str, ...] = ()
    override: Mapping[str, str] = field(default_factory=dict)
    accept: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, Collection[str]], ...] = (
            ("inherit", self.inherit),
            ("override", self.override),
            ("accept", self.accept),
        )
        for index, (first, names) in enumerate(rules):
            for second, others in rules[index + 1 :]:
                if both := sorted(set(names) & set(others)):
                    raise Refused(
                        f"recv.properties: {', '.join(both)} stands in both `{first}` and "
                        f"`{second}`: keep it in one"
                    )

    def takes(self, name: str) -> bool:
        """Whether the job itself gives that property its value, or lets the sender do it."""
        return name in self.override or name in self.accept

    def excluded(self, *, is_volume: bool | None) -> tuple[str, ...]:
        """The names for `-x`, for a filesystem, a volume, or (None) while that is unknown.

        zfs warns about a name that does not apply to the dataset's type and goes on.
        """
        named = frozenset((*self.inherit, *self.override, *self.accept))
        return _excluded(self.inherit, named, is_volume)

    def set_here(self, *, source_guid: int | None, over_placeholder: bool) -> dict[str, str]:
        """The names and values for `-o`: the job's, and our own marks."""
        override = dict(self.override)
        if over_placeholder:
            # Set by the receive itself: set before, a kill would leave an empty filesystem that
            # nothing can be received into; set after, real data that counts as a placeholder.
            override[PLACEHOLDER] = NO_LONGER
        if source_guid is not None:
            override[SOURCE_GUID] = str(source_guid)
        return override


@lru_cache(maxsize=64)  # the same for each step of a job
def _excluded(
    inherit: tuple[str, ...], named: frozenset[str], is_volume: bool | None
) -> tuple[str, ...]:
    acting: tuple[str, ...]
    if is_volume is None:
        acting = tuple(dict.fromkeys(ACTING_ON_FILESYSTEMS + ACTING_ON_VOLUMES))
    else:
        acting = ACTING_ON_VOLUMES if is_volume else ACTING_ON_FILESYSTEMS
    return (*inherit, *(name for name in acting if name not in named))
