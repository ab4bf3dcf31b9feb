"""`zrepl-trio test`: how a filter decides, where a receiver puts things, what is a placeholder, what a resume token says."""

from __future__ import annotations

import json

from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.config.model import Config, Job, PullJob, SinkJob
from zrepl_trio.endpoint.confine import Confinement
from zrepl_trio.errors import DatasetNotFound, Refused
from zrepl_trio.logs.lines import escape
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import ResumeToken
from zrepl_trio.zfs.names import DatasetPath, InvalidName, check_identity
from zrepl_trio.zfs.port import Zfs

__all__ = [
    "job_named",
    "one_path",
    "show_place",
    "show_placeholders",
    "show_verdicts",
    "token_json",
]

_ANY_CLIENT = check_identity("IDENTITY")


def one_path(option: str, text: str | None, *, all_: bool) -> DatasetPath | None:
    """The dataset that `option` names, None for `--all`; UsageRefused unless it is one of the two."""
    if all_ == (text is not None):
        raise UsageRefused(f"give either --all or {option}")
    try:
        return None if text is None else DatasetPath.parse(text)
    except InvalidName as error:
        raise UsageRefused(f"{option}: {error}") from None


def job_named(config: Config, name: str) -> Job:
    """That job; UsageRefused when there is none."""
    job = config.job(name)
    if job is None:
        there = ", ".join(each.name for each in config.jobs) or "none"
        raise UsageRefused(f"--job: the config has no job {name!r} (its jobs: {there})")
    return job


def show_place(job: PullJob | SinkJob, path: DatasetPath | None) -> None:
    """Print ACCEPT and where the sender's `path` lands, or REJECT and why; UsageRefused for None,
    since a receiver does not know what there is on the sender."""
    if path is None:
        raise UsageRefused(
            f"--all: {job.name} is a {job.type} job, which means filesystems of its sender: name "
            "one with --input"
        )
    identity = _ANY_CLIENT if isinstance(job, SinkJob) else None
    try:
        place = Confinement(job.root_fs, identity, job.recv.target).local(path)
    except Refused as error:
        print(f"REJECT\t{path}\t{error}")
    else:
        print(f"ACCEPT\t{path}\t{place}")


async def show_verdicts(zfs: Zfs, admitting: FilesystemFilter, path: DatasetPath | None) -> None:
    """Print ACCEPT or REJECT for `path`, which needs not exist, or for all there are."""
    paths = [path] if path is not None else [each.path for each in await zfs.datasets()]
    for each in paths:
        # zrepl's third column tells why a filter cannot decide; a loaded one always can.
        print(f"{'ACCEPT' if admitting.admits(each) else 'REJECT'}\t{each}\t")


async def show_placeholders(zfs: Zfs, path: DatasetPath | None) -> None:
    """Print whether `path`, or each dataset there is, is a placeholder."""
    if path is None:
        datasets = await zfs.datasets()
    elif (found := await zfs.dataset(path)) is not None:
        datasets = [found]
    else:
        raise DatasetNotFound(f"filesystem {path} does not exist", dataset=path)
    print("IS_PLACEHOLDER\tDATASET\tzrepl:placeholder")
    for each in datasets:
        answer = "yes" if each.is_placeholder else "no"
        print(f"{answer}\t{each.path}\t{escape(each.placeholder_value)}")


def token_json(token: ResumeToken) -> str:
    """zrepl's JSON of a resume token. zfs names a flag only where it is set."""
    flags = {
        "CompressOK": token.compress_ok,
        "RawOK": token.raw_ok,
        "LargeBlockOK": token.large_block_ok,
        "EmbedOK": token.embed_ok,
        "SavedOk": token.saved_ok,
    }
    # zrepl's own spelling of these three
    has = {"RawOK": "HasRawOk", "EmbedOK": "HasEmbedOk"}
    value: dict[str, object] = {
        "HasFromGUID": token.from_guid is not None,
        "HasToGUID": True,
        "FromGUID": token.from_guid or 0,
        "ToGUID": token.to_guid,
        "ToName": token.to_name,
    }
    for name, is_set in flags.items():
        value |= {has.get(name, f"Has{name}"): is_set, name: is_set}
    return json.dumps(value, indent=1)
