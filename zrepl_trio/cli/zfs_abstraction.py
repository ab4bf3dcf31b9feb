"""`zrepl-trio zfs-abstraction`: zrepl's holds and bookmarks on this host, listed and let go of."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from zrepl_trio.cli.console import console
from zrepl_trio.cli.exitcodes import ExitCode, UsageRefused
from zrepl_trio.endpoint.housekeeping import Listing, hold_step, list_abstractions, release
from zrepl_trio.endpoint.inventory import (
    ALL_TYPES,
    Abstraction,
    Selection,
    check_tells_staleness,
    parse_filesystems,
    parse_job,
    parse_types,
    stale,
)
from zrepl_trio.zfs.names import DatasetPath, InvalidName, check_snapshot_name
from zrepl_trio.zfs.port import Zfs

__all__ = [
    "create_step",
    "list_all",
    "parse_target",
    "release_all",
    "release_stale",
    "selection_of",
]


def selection_of(fs: str | None, job: str | None, types: str | None) -> Selection:
    """What the filter options mean, None for one that was not given; UsageRefused names the one
    that means nothing."""
    option = ""
    chosen = Selection()
    try:
        option = "--job"
        of_job = None if job is None else parse_job(job)
        option = "--type"
        of_types = ALL_TYPES if types is None else parse_types(types)
        option = "--fs"
        filesystems = chosen.filesystems if fs is None else parse_filesystems(fs)
    except InvalidName as error:
        raise UsageRefused(f"{option}: {error}") from None
    return Selection(filesystems=filesystems, job=of_job, types=of_types)


def _say_errors(listing: Listing) -> None:
    err = console(sys.stderr)
    for path, error in listing.errors:
        text = str(error)
        err.print(text if path in text else f"{path}: {text}", style="red")


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


async def list_all(zfs: Zfs, selection: Selection, *, concurrency: int, as_json: bool) -> ExitCode:
    """Print them, one a line, or one JSON object each with a blank line behind."""
    listing = await list_abstractions(zfs, selection, concurrency=concurrency)
    for each in listing.abstractions:
        if as_json:
            _print_json(each.to_json())
            print()
        else:
            print(each)
    _say_errors(listing)
    return ExitCode.FAILED if listing.errors else ExitCode.DONE


async def release_all(
    zfs: Zfs, selection: Selection, *, concurrency: int, as_json: bool, dry_run: bool
) -> ExitCode:
    """Let go of all that is meant, also when some filesystem cannot be listed."""
    listing = await list_abstractions(zfs, selection, concurrency=concurrency)
    _say_errors(listing)
    code = await _release(zfs, listing.abstractions, as_json=as_json, dry_run=dry_run)
    return ExitCode.FAILED if listing.errors else code


async def release_stale(
    zfs: Zfs, selection: Selection, *, concurrency: int, as_json: bool, dry_run: bool
) -> ExitCode:
    """Let go of what is stale; of nothing when any filesystem cannot be listed."""
    try:
        check_tells_staleness(selection.types)
    except InvalidName as error:
        raise UsageRefused(f"--type: {error}") from None
    listing = await list_abstractions(zfs, selection, concurrency=concurrency)
    _say_errors(listing)
    if listing.errors:
        print(
            "zrepl-trio: nothing was released: what could not be listed may tell what is stale",
            file=sys.stderr,
        )
        return ExitCode.FAILED
    return await _release(zfs, stale(listing.abstractions), as_json=as_json, dry_run=dry_run)


async def _release(
    zfs: Zfs, abstractions: Sequence[Abstraction], *, as_json: bool, dry_run: bool
) -> ExitCode:
    if dry_run:
        if as_json:
            _print_json([each.to_json() for each in abstractions])
        else:
            for each in abstractions:
                print(f"would destroy {each}")
        return ExitCode.DONE
    failed = 0
    async for each, error in release(zfs, abstractions):
        failed += error is not None
        if as_json:
            _print_json({"Abstraction": each.to_json(), "DestroyErr": str(error or "")})
        elif error is None:
            print(f"destroy {each} ... OK")
        else:
            print(f"destroy {each} ... failed:\n{error}")
    if failed:
        print(
            f"zrepl-trio: {failed} of {len(abstractions)} could not be destroyed", file=sys.stderr
        )
    return ExitCode.FAILED if failed else ExitCode.DONE


def parse_target(target: str, job: str) -> tuple[DatasetPath, str, str]:
    """Dataset, snapshot and job of `create step`; UsageRefused when they name none."""
    if "#" in target:
        raise UsageRefused(f"--target: {target!r} is a bookmark; only a snapshot can be held")
    dataset, sign, snapshot = target.partition("@")
    if not sign:
        raise UsageRefused(f"--target: {target!r} names no snapshot (accepted: FS@SNAP)")
    try:
        return DatasetPath.parse(dataset), check_snapshot_name(snapshot), parse_job(job)
    except InvalidName as error:
        raise UsageRefused(str(error)) from None


async def create_step(zfs: Zfs, dataset: DatasetPath, snapshot: str, job: str) -> None:
    """Put the job's step hold on the snapshot, and print it."""
    print(await hold_step(zfs, dataset, snapshot, job))
