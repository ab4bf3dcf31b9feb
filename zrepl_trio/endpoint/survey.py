"""Looks at all that jobs would work on, and changes nothing: few zfs processes for many datasets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import trio

from zrepl_trio.endpoint.inventory import Abstraction, abstractions_on
from zrepl_trio.endpoint.listing import versions_of
from zrepl_trio.endpoint.protect import holds_on
from zrepl_trio.errors import BadResumeToken
from zrepl_trio.zfs.model import Dataset, FilesystemVersion, ResumeToken
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["Survey", "look"]

_AT_ONCE = 4
"""So many datasets are asked for their holds at a time."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is there of the datasets that were asked for, by path.

    `tokens` has the decoded resume token, or why it cannot be read, of those with partly
    received state.
    """

    versions: dict[DatasetPath, Sequence[FilesystemVersion]] = field(default_factory=dict)
    abstractions: dict[DatasetPath, Sequence[Abstraction]] = field(default_factory=dict)
    tokens: dict[DatasetPath, ResumeToken | str] = field(default_factory=dict)


async def look(zfs: Zfs, datasets: Collection[Dataset]) -> Survey:
    """Read versions, holds and resume tokens of those datasets. Raises ZfsError.

    Costs one zfs process for each topmost dataset, and one more for each that has held snapshots
    and for each token.
    """
    survey = Survey()
    versions = await versions_of(zfs, [each.path for each in datasets])
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def ask(dataset: Dataset) -> None:
        listed = versions.get(dataset.path, [])
        async with limit:
            holds = await holds_on(zfs, dataset.path, listed)
            if dataset.resume_token is not None:
                try:
                    survey.tokens[dataset.path] = await zfs.decode_token(dataset.resume_token)
                except BadResumeToken as error:
                    survey.tokens[dataset.path] = str(error)
        survey.versions[dataset.path] = listed
        survey.abstractions[dataset.path] = abstractions_on(dataset.path, listed, holds)

    async with trio.open_nursery() as nursery:
        for dataset in datasets:
            nursery.start_soon(ask, dataset)
    return survey
