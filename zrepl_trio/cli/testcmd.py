"""`zrepl-trio test`: how a filter decides, what is a placeholder, what a resume token says."""

from __future__ import annotations

import json

from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.config.model import Config, PushJob, SnapJob, SourceJob
from zrepl_trio.errors import DatasetNotFound
from zrepl_trio.logs.lines import escape
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import ResumeToken
from zrepl_trio.zfs.names import DatasetPath, InvalidName
from zrepl_trio.zfs.port import Zfs

__all__ = ["filter_of", "one_path", "show_placeholders", "show_verdicts", "token_json"]


def one_path(option: str, text: str | None, *, all_: bool) -> DatasetPath | None:
    """The dataset that `option` names, None for `--all`; UsageRefused unless it is one of the two."""
    if all_ == (text is not None):
        raise UsageRefused(f"give either --all or {option}")
    try:
        return None if text is None else DatasetPath.parse(text)
    except InvalidName as error:
        raise UsageRefused(f"{option}: {error}") from None


def filter_of(config: Config, name: str) -> FilesystemFilter:
    """The `filesystems` of that job; UsageRefused when there is none."""
    job = config.job(name)
    if job is None:
        there = ", ".join(each.name for each in config.jobs) or "none"
        raise UsageRefused(f"--job: the config has no job {name!r} (its jobs: {there})")
    if not isinstance(job, PushJob | SourceJob | SnapJob):
        raise UsageRefused(f"--job: {name} is a {job.type} job, which has no `filesystems`")
    return job.filesystems


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
