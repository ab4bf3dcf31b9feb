"""Known ways to lose data, built in again on purpose: what proves that the hunt finds such things.

Each is a failure that users of ZFS tools have lived through. `python -m tests.hunt.mutants` hunts them all.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from tests.hunt.scenario import scenario_of
from tests.hunt.world import run_scenario
from zrepl_trio.endpoint import guarantees, parents, receiver, sender
from zrepl_trio.endpoint.abstractions import last_received_tag
from zrepl_trio.endpoint.confine import Confinement
from zrepl_trio.endpoint.guarantees import Changes
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption, placeholder_properties
from zrepl_trio.jobs import replicating
from zrepl_trio.jobs.active import Result
from zrepl_trio.pruning import plan as prune_plan
from zrepl_trio.pruning import planner, rules
from zrepl_trio.pruning.floor import FloorRules
from zrepl_trio.pruning.plan import Base
from zrepl_trio.replication import execute, planning
from zrepl_trio.replication import plan as replication_plan
from zrepl_trio.replication.policy import DivergencePolicy
from zrepl_trio.rpc import dataconn, heartbeat, keepalive
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["MUTANTS", "SEEDS", "Mutant", "hunted"]

SEEDS = 300
"""Within so many each is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`story` is where it happened; `seed` one that finds it, by an invariant whose text has `broken`."""

    story: str
    seed: int
    broken: str
    patches: Callable[[], Sequence[Any]]

    @contextmanager
    def at_large(self) -> Iterator[None]:
        """The product has that bug in the block."""
        with ExitStack() as stack:
            for patch in self.patches():
                stack.enter_context(patch)
            yield

    def caught(self, seed: int) -> bool:
        """Whether that seed finds it, for what it is."""
        with self.at_large():
            return any(self.broken in text for text in run_scenario(scenario_of(seed)).broken)


def _only_the_cursor(cursor: int | None, *_: object) -> Base:
    """What tells pruning where the next increment starts, without a look at the other side."""
    return Base.at(cursor)


def _forgets_base() -> Sequence[Any]:
    """Nothing is held on the receiver, and pruning does not ask what both sides have."""

    def unheld(*, job: str, **_: object) -> Changes:
        return Changes(tag=last_received_tag(job))

    return [
        mock.patch.object(receiver, "after_receive", unheld),
        mock.patch.object(planner, "base_on_receiver", _only_the_cursor),
    ]


def _marks_what_was_meant() -> Sequence[Any]:
    """The cursor goes to the newest snapshot, whatever has been received."""
    original = guarantees.after_confirmation

    def meant(*, versions: Sequence[FilesystemVersion], **rest: Any) -> Changes:
        newest = max(
            (each for each in versions if each.is_snapshot), key=lambda each: each.createtxg
        )
        return original(versions=versions, **{**rest, "to": newest})

    return [
        mock.patch.object(sender, "after_confirmation", meant),
        mock.patch.object(planner, "base_on_sender", _only_the_cursor),
    ]


def _never_resumes() -> Sequence[Any]:
    return [
        mock.patch.object(replication_plan, "_resumed", return_value="its token is not `local`"),
    ]


def _drops_last_step() -> Sequence[Any]:
    original = replication_plan.limited_to

    def before_it(plan: Any, last_target: int) -> Any:
        limited = original(plan, last_target)
        return replace(limited, steps=limited.steps[:-1])

    return [mock.patch.object(execute, "limited_to", before_it)]


def _clear_placeholders() -> Sequence[Any]:
    def off(path: DatasetPath, *, client_root: DatasetPath, encryption: object) -> dict[str, str]:
        del encryption
        return placeholder_properties(
            path, client_root=client_root, encryption=PlaceholderEncryption.OFF
        )

    return [
        mock.patch.object(module, "placeholder_properties", off) for module in (parents, receiver)
    ]


def _rolls_back() -> Sequence[Any]:
    """What the receiver has of its own goes, nobody having asked for it."""
    original = replication_plan.plan_filesystem

    def forced(**rest: Any) -> Any:
        return original(**{**rest, "divergence": DivergencePolicy.ROLLBACK})

    return [mock.patch.object(planning, "plan_filesystem", forced)]


def _takes_all_for_its_own() -> Sequence[Any]:
    return [mock.patch.object(prune_plan, "_is_foreign", return_value=False)]


def _has_no_floor() -> Sequence[Any]:
    def nothing(_self: object, _versions: object) -> Mapping[str, str]:
        return {}

    return [mock.patch.object(FloorRules, "__call__", nothing)]


def _waits_for_ever() -> Sequence[Any]:
    return [
        mock.patch.object(dataconn, "PEER_LIMIT_S", math.inf),
        mock.patch.object(heartbeat, "PEER_LIMIT_S", math.inf),
        mock.patch.object(keepalive, "CLIENT_IDLE_S", math.inf),
        mock.patch.object(keepalive, "TIMEOUT_S", math.inf),
    ]


def _knows_no_budget() -> Sequence[Any]:
    return [mock.patch.object(rules, "_within_budget", lambda waiting, *_: set(waiting))]


def _leaves_holds() -> Sequence[Any]:
    original = guarantees.after_confirmation

    def held(**rest: Any) -> Changes:
        return replace(original(**rest), release=())

    before = guarantees.before_send

    def held_before(**rest: Any) -> Changes:
        return replace(before(**rest), release=())

    return [
        mock.patch.object(sender, "after_confirmation", held),
        mock.patch.object(sender, "before_send", held_before),
    ]


def _mixes_clients() -> Sequence[Any]:
    def everybody(self: Confinement) -> DatasetPath:
        return self.root if self.identity is None else self.root.child("app")

    return [mock.patch.object(Confinement, "client_root", property(everybody))]


def _loses_renamed() -> Sequence[Any]:
    return [mock.patch.object(planning, "renamed", return_value={})]


def _says_nothing() -> Sequence[Any]:
    original = replicating._result

    def silent(*rest: Any) -> Result:
        return replace(original(*rest), error="")

    return [mock.patch.object(replicating, "_result", silent)]


_KEPT = "was destroyed, which a rule keeps"

MUTANTS = {
    "pruning forgets the common base": Mutant(
        story="zrepl#340", seed=2, broken="no increment is possible", patches=_forgets_base
    ),
    "the cursor is at what was meant to be sent": Mutant(
        story="bzfs#113", seed=17, broken="no increment is possible", patches=_marks_what_was_meant
    ),
    "a resume token is thrown away": Mutant(
        story="dsh2dsh#82", seed=2, broken="are lost", patches=_never_resumes
    ),
    "the last step of a repeated attempt is dropped": Mutant(
        story="zrepl 0.7", seed=24, broken="says it is done", patches=_drops_last_step
    ),
    "placeholders are in clear text": Mutant(
        story="zrepl#504", seed=4, broken="in clear text", patches=_clear_placeholders
    ),
    "replicas are rolled back unasked": Mutant(
        story="sanoid#558, openzfs#5341", seed=4, broken="rolled back unasked", patches=_rolls_back
    ),
    "snapshots of others are pruned": Mutant(
        story="zrepl#651", seed=13, broken=_KEPT, patches=_takes_all_for_its_own
    ),
    "a client passes the sink's floor": Mutant(
        story="zrepl#224, zrepl#468, borg#3504", seed=2, broken=_KEPT, patches=_has_no_floor
    ),
    "a silent peer is waited for": Mutant(
        story="zrepl#495", seed=1, broken="goes on since", patches=_waits_for_ever
    ),
    "a dead receiver fills the pool": Mutant(
        story="znapzend#425", seed=40, broken="was left by pruning", patches=_knows_no_budget
    ),
    "holds are left": Mutant(
        story="zrepl's stale holds", seed=1, broken="step holds left", patches=_leaves_holds
    ),
    "one client writes into another's tree": Mutant(
        story="clients in one namespace", seed=9, broken="whose it is not", patches=_mixes_clients
    ),
    "a renamed dataset is sent anew": Mutant(
        story="zrepl#126, zrepl#853", seed=49, broken="more than one copy", patches=_loses_renamed
    ),
    "a run ends without a word": Mutant(
        story="zrepl#384", seed=4, broken="without a word", patches=_says_nothing
    ),
}


def hunted(mutant: Mutant) -> int | None:
    """The first seed that finds it; None when none does."""
    return next((seed for seed in range(1, SEEDS + 1) if mutant.caught(seed)), None)


def main() -> int:
    lost = 0
    for name, mutant in MUTANTS.items():
        seed = hunted(mutant)
        lost += seed is None
        print(
            f"{name} ({mutant.story}): {f'found by seed {seed}' if seed else 'not found'}",
            flush=True,
        )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
