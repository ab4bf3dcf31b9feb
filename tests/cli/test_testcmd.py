"""`test`: verdicts, placeholders and tokens as zrepl prints them."""

from __future__ import annotations

import json
import random

import pytest

from tests.zfs.test_memory import TestClock
from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.cli.testcmd import show_place, show_placeholders, show_verdicts, token_json
from zrepl_trio.config.load import parse_config
from zrepl_trio.errors import DatasetNotFound
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import ResumeToken
from zrepl_trio.zfs.names import DatasetPath


@pytest.fixture
async def zfs() -> MemoryZfs:
    zfs = MemoryZfs(rng=random.Random(0), clock=TestClock(), pools=["tank"])
    zfs.add_filesystem("tank/a", {"zrepl:placeholder": "on"})
    zfs.add_filesystem("tank/a/b")
    zfs.add_filesystem("tank/c", {"zrepl:placeholder": "o\tff"})
    return zfs


async def test_a_verdict_each(zfs: MemoryZfs, capsys: pytest.CaptureFixture[str]) -> None:
    admitting = FilesystemFilter.of({"tank<": True, "tank/a<": False})
    await show_verdicts(zfs, admitting, None)
    assert capsys.readouterr().out == (
        "ACCEPT\ttank\t\nREJECT\ttank/a\t\nREJECT\ttank/a/b\t\nACCEPT\ttank/c\t\n"
    )
    await show_verdicts(zfs, admitting, DatasetPath("tank/not/yet"))
    assert capsys.readouterr().out == "ACCEPT\ttank/not/yet\t\n"


def test_a_receiver_tells_where_a_filesystem_lands(capsys: pytest.CaptureFixture[str]) -> None:
    sink = parse_config(
        "jobs: [{name: sink, type: sink, serve: {type: local, listener_name: here}, root_fs: b, "
        "recv: {target: {'tank/data<': ''}}}]"
    ).config.jobs[0]
    assert sink.type == "sink"
    show_place(sink, DatasetPath("tank/data/a"))
    assert capsys.readouterr().out == "ACCEPT\ttank/data/a\tb/IDENTITY/a\n"
    show_place(sink, DatasetPath("tank/x"))
    assert capsys.readouterr().out == (
        "REJECT\ttank/x\tcannot place 'tank/x' below b/IDENTITY: no entry of `recv.target` "
        "matches it\n"
    )
    with pytest.raises(UsageRefused, match="name one with --input"):
        show_place(sink, None)


async def test_only_a_datasets_own_mark_counts(
    zfs: MemoryZfs, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "IS_PLACEHOLDER\tDATASET\tzrepl:placeholder\n"
    await show_placeholders(zfs, None)
    assert capsys.readouterr().out == (
        f"{head}no\ttank\t\nyes\ttank/a\ton\nno\ttank/a/b\t\nno\ttank/c\to\\tff\n"
    )
    await show_placeholders(zfs, DatasetPath("tank/a"))
    assert capsys.readouterr().out == f"{head}yes\ttank/a\ton\n"
    with pytest.raises(DatasetNotFound, match="tank/none does not exist"):
        await show_placeholders(zfs, DatasetPath("tank/none"))


@pytest.mark.parametrize(
    ("token", "differs"),
    [
        (ResumeToken(to_name="a@1", to_guid=2**64 - 1), {}),
        (
            ResumeToken(to_name="a@1", to_guid=2**64 - 1, from_guid=7, raw_ok=True),
            {"HasFromGUID": True, "FromGUID": 7, "HasRawOk": True, "RawOK": True},
        ),
    ],
)
def test_a_token_has_zrepls_keys_in_zrepls_order(
    token: ResumeToken, differs: dict[str, object]
) -> None:
    keys = ["HasFromGUID", "HasToGUID", "FromGUID", "ToGUID", "ToName"]
    for flag in ("CompressOK", "RawOk RawOK", "LargeBlockOK", "EmbedOk EmbedOK", "SavedOk"):
        first, *second = flag.split()
        keys += [f"Has{first}", *(second or [first])]
    plain = dict.fromkeys(keys, False) | {
        "HasToGUID": True,
        "FromGUID": 0,
        "ToGUID": 2**64 - 1,
        "ToName": "a@1",
    }
    text = token_json(token)
    assert list(json.loads(text)) == keys
    assert json.loads(text) == plain | differs
    assert text.startswith('{\n "HasFromGUID": ')
