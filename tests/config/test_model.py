"""Models made in code, as tests and other parts do, rather than from a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from zrepl_trio.config.addresses import HostPort
from zrepl_trio.config.grid import RetentionGrid
from zrepl_trio.config.hooks import CommandHook
from zrepl_trio.config.keep import KeepGrid, KeepLastN, KeepRegex, Pruning
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.model import Config, PullJob
from zrepl_trio.config.nodes import key_path
from zrepl_trio.config.regex import Regex
from zrepl_trio.config.rules import PeriodicSnapshotting
from zrepl_trio.config.transport import SshStdinserverConnect, TcpConnect
from zrepl_trio.errors import ConfigErrors
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

ALL = KeepRegex(type="regex", regex=Regex.parse(".*"))


def test_values_stand_for_themselves() -> None:
    job = PullJob(
        type="pull",
        name="fetch",
        connect=SshStdinserverConnect(
            type="ssh+stdinserver",
            host="h",
            user="u",
            port=22,
            identity_file="/k",
            dial_timeout=2.5,
        ),
        root_fs=DatasetPath.parse("backup/hosts"),
        interval=90.0,
        pruning=Pruning(
            keep_sender=(ALL,),
            keep_receiver=(
                KeepGrid(
                    type="grid",
                    grid=RetentionGrid.parse("1x1h"),
                    regex=Regex.parse("a"),
                ),
                KeepLastN(type="last_n", count=3),
            ),
        ),
        run_at_start=True,
    )
    config = Config(jobs=(job,))
    assert config.job("fetch") is job
    assert config.job("other") is None
    assert job.connect.dial_timeout == 2.5
    assert job.interval == 90.0


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ALL.negate = True  # type: ignore[misc]


def test_other_values_stand_for_themselves_too() -> None:
    hook = CommandHook(type="command", path="/x", filesystems=FilesystemFilter.of({"a": True}))
    assert hook.filesystems.admits("a")
    connect = TcpConnect(type="tcp", address=HostPort("h", "1"), dial_timeout=0)
    assert connect.address.host == "h"


@pytest.mark.parametrize("value", [5, 1.5, b"x", object()], ids=["int", "float", "bytes", "object"])
def test_values_of_no_use_are_refused(value: object) -> None:
    for key in ("path", "timeout", "filesystems", "err_is_fatal"):
        if (key, type(value)) in {("timeout", int), ("timeout", float)}:
            continue
        with pytest.raises(ValidationError):
            CommandHook.model_validate({"type": "command", "path": "/x", key: value})


def test_snapshots_are_named_by_the_section() -> None:
    section = PeriodicSnapshotting(type="periodic", prefix="zrepl_", interval=60.0)
    when = datetime(2024, 5, 14, 21, 16, 23, tzinfo=UTC)
    assert section.naming.name(when) == "zrepl_20240514_211623_000"


def test_a_config_from_code_has_no_places() -> None:
    loaded = LoadedConfig(Config(), Path("made.yml"))
    assert str(loaded.problem(("jobs", 0, "name"), "is odd")) == "made.yml: jobs[0].name: is odd"


def test_key_paths_are_one_short_line() -> None:
    assert key_path(("jobs", 0, "filesystems", "tank<")) == "jobs[0].filesystems['tank<']"
    assert key_path(("a\nb",)) == "['a\\nb']"
    assert len(key_path(("k" * 500,))) < 100


def test_messages_stay_short_however_long_the_value(tmp_path: Path) -> None:
    text = f"jobs: [{{type: {'x' * 10_000}, name: y}}, {{type: snap, name: {'n' * 10_000}}}]"
    with pytest.raises(ConfigErrors) as caught:
        parse_config(text, tmp_path / "zrepl.yml")
    assert all(len(line) < 1000 for line in str(caught.value).splitlines())
