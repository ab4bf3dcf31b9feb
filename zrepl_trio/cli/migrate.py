"""`zrepl-trio migrate`: what zrepl's older versions left on disk, brought to today's form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.config.model import Config, PullJob, PushJob, SinkJob, SourceJob
from zrepl_trio.endpoint.abstractions import LEGACY_CURSOR
from zrepl_trio.endpoint.migrations import owner_of, plan_cursor_move, wants_placeholder_rewrite
from zrepl_trio.errors import Refused, ZfsError
from zrepl_trio.jobs.build import runtime_directory
from zrepl_trio.jobs.lock import held_lock
from zrepl_trio.logs.lines import escape
from zrepl_trio.transport.privatedir import ensure_private_directory
from zrepl_trio.zfs.argv import PLACEHOLDER
from zrepl_trio.zfs.model import Dataset
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["migrate_cursors", "migrate_placeholders"]


def _ignored(config: Config, kept: type | tuple[type, ...], why: str) -> Iterator[str]:
    for number, job in enumerate(config.jobs, 1):
        if not isinstance(job, kept):
            yield f"ignoring job {job.name!r} ({number}/{len(config.jobs)}, type {job.type}){why}"


async def migrate_placeholders(zfs: Zfs, config: Config, *, dry_run: bool) -> ExitCode:
    """Rewrite 0.0.x's placeholder marks to today's, below each sink and pull job's `root_fs`.

    Raises JobLocked when a daemon runs one of those jobs: what it receives meanwhile would be
    marked as a placeholder, and the next receive would overwrite it.
    """
    for line in _ignored(config, (SinkJob, PullJob), ""):
        print(line)
    jobs = [job for job in config.jobs if isinstance(job, SinkJob | PullJob)]
    failed = False
    with ExitStack() as locks:
        if jobs and not dry_run:
            directory = runtime_directory(config)
            ensure_private_directory(directory)
            for job in jobs:
                locks.enter_context(held_lock(directory, job.name))
        datasets = await zfs.datasets() if jobs else []
        for job in jobs:
            print(f'job "{job.name}" => migrate filesystems below root_fs "{job.root_fs}"')
            below = [each for each in datasets if each.path.is_at_or_below(job.root_fs)]
            if not below:
                print("\tno filesystems")
            for each in below:
                try:
                    told = await _migrate_placeholder(zfs, each, dry_run=dry_run)
                except ZfsError as error:
                    failed, told = True, f"error: {error}"
                print(f'\t"{each.path}" ... {told}')
    return ExitCode.FAILED if failed else ExitCode.DONE


async def _migrate_placeholder(zfs: Zfs, listed: Dataset, *, dry_run: bool) -> str:
    # Looked at again before it is changed: another job's root may lie at the same place.
    dataset = await zfs.dataset(listed.path) if wants_placeholder_rewrite(listed) else listed
    if dataset is None:
        return "gone meanwhile"
    is_one = str(dataset.is_placeholder).lower()
    if not wants_placeholder_rewrite(dataset):
        return f"unchanged (placeholder={is_one})"
    if not dry_run:
        await zfs.set_properties(dataset.path, {PLACEHOLDER: "on"})
    return f'migrate (placeholder={is_one}) (old value = "{escape(dataset.placeholder_value)}")'


async def migrate_cursors(zfs: Zfs, config: Config, *, dry_run: bool) -> ExitCode:
    """Destroy the replication cursors of zrepl's first form that today's have caught up with."""
    why = ", not supposed to create v1 replication cursors"
    for line in _ignored(config, (PushJob, SourceJob), why):
        print(line)
    senders = [
        (job.name, job.filesystems) for job in config.jobs if isinstance(job, PushJob | SourceJob)
    ]
    failed = False
    for dataset in await zfs.datasets():
        print(f'INSPECT FILESYSTEM "{dataset.path}"')
        try:
            owner = owner_of(dataset.path, senders)
            if owner is None:
                print("no job's Filesystems filter matches\nFILESYSTEM SKIPPED")
            elif await _migrate_cursor(zfs, dataset.path, owner, dry_run=dry_run):
                print(f'FILESYSTEM "{dataset.path}" COMPLETE')
            else:
                print("FILESYSTEM SKIPPED")
        except (Refused, ZfsError) as error:
            failed = True
            print(f"MIGRATION FAILED: {error}")
    return ExitCode.FAILED if failed else ExitCode.DONE


async def _migrate_cursor(zfs: Zfs, path: DatasetPath, owner: str, *, dry_run: bool) -> bool:
    """Whether there was one."""
    print(f'identified owning job "{owner}"')
    move = plan_cursor_move(path, owner, await zfs.versions(path))
    if move is None:
        print(f'no v1 replication cursor found for filesystem "{path}"')
        return False
    print(f"found v1 replication cursor: createtxg {move.old.createtxg}")
    print(f"most recent v2 replication cursor: {move.new.relative}, createtxg {move.new.createtxg}")
    print(f'destroying v1 cursor "{move.old.full(path)}"')
    if dry_run:
        print("DRY RUN")
    else:
        await zfs.destroy_bookmark(path, LEGACY_CURSOR)
    return True
