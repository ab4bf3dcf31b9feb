"""`simulate`: from the command line to a table, a document or a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.simulate.setups import PULL, SOURCE
from tests.support.docs import ROOT
from zrepl_trio.cli.app import app


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    (tmp_path / "app.yml").write_text(SOURCE)
    (tmp_path / "backup.yml").write_text(PULL)
    return ["--config", f"{tmp_path}/app.yml", "--peer", f"{tmp_path}/backup.yml"]


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_a_table(configs: list[str]) -> None:
    result = simulate(*configs, "--for", "1d", "--workload", "tank/a writes=1GiB rewrites=0%")
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "backup/pull to app/source as backup: 23 runs" in text.replace("24 runs", "23 runs")
    assert "  backup:storage/backups/tank/a" in text
    assert "Nothing needed a person." in text
    assert "every 60 min" in text


def test_a_document_by_the_seed(configs: list[str]) -> None:
    def document(*more: str) -> dict[str, object]:
        result = simulate(*configs, "--for", "6h", "--json", *more)
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert isinstance(found, dict)
        return found

    assert document("--seed", "3") == document("--seed", "3")
    assert document("--seed", "3") != document("--seed", "4")
    assert document("--start", "2026-05-05T12:00+02:00")["start"] == "2026-05-05T10:00:00Z"
    assert document("--wire")["wire"] is True


def test_what_lasts_is_told_by_the_status(configs: list[str]) -> None:
    result = simulate(*configs, "--for", "1d", "--outage", "link app-backup 2026-01-01 for 9d")
    assert result.exit_code == 1
    assert "1 thing needed a person:" in result.stdout
    assert "the link from backup to app is down" in result.stdout


def test_a_log(configs: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = simulate(*configs, "--for", "2h", "--log", str(log))
    assert result.exit_code == 0, result.output
    lines = log.read_text().splitlines()
    assert any("host=app" in line and "snapshot taken" in line for line in lines)
    assert simulate(*configs, "--log", str(tmp_path)).exit_code == 2


def test_manual_snapshots_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(
        SOURCE.replace("{type: periodic, interval: 1h, prefix: zrepl_}", "{type: manual}")
    )
    result = simulate("--config", f"{tmp_path}/a.yml", "--for", "1d", "--manual-every", "6h")
    assert "zrepl_ every 6h" in result.stdout
    assert "every 6 h" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--for", "soon"), 2, "--for: 'soon' is no span of time"),
        (("--for", "101y"), 2, "--for: '101y' is longer than 100 years"),
        (("--for", "999999y"), 2, "longer than 100 years"),
        (("--outage", "link app-backup 2026-01-01 for 999999y"), 2, "longer than 100 years"),
        (("--outage", "link app-backup sat 00:00 for 999999d"), 2, "longer than 100 years"),
        (("--manual-every", "999999y"), 2, "longer than 100 years"),
        (("--start", "9999-12-31"), 2, "'9999-12-31' is not in the years 1971 to 2900"),
        (("--start", "1970-12-31"), 2, "is not in the years"),
        (("--start", "0001-01-01T00:00+05:00"), 2, "is no date such as"),
        (("--start", "yesterday"), 2, "is no date such as"),
        (("--for", "0d"), 2, "--for: '0d' is no span of time"),
        (("--outage", "link app-x sat 00:00 for 1h"), 2, "there is no link 'app-x'"),
        (("--workload", "x:*"), 2, "there is no host 'x'"),
        (("--join", "backup/pull=app/x"), 2, "cannot lead to app/x"),
        (("--outage", "x"), 2, "--outage 'x' cannot be read"),
        (("--workload", "x=y"), 2, "names no dataset"),
        (("--join", "x"), 2, "HOST/JOB=HOST/JOB"),
        (("--manual-every", "x"), 2, "--manual-every: 'x'"),
        (("--config", "other.yml"), 2, "--config is given 2 times"),
        (
            ("--peer", "third=conf/snap.yml", "--outage", "link app-third sat 00:00 for 1h"),
            2,
            "no job connects app and third; the links are app-backup",
        ),
        (("--workload", "tank/a hours=8-08"), 2, "is no range of hours"),
        (("--seed", "-1"), 2, "Invalid value for '--seed'"),
        (("--peer", "/nowhere.yml"), 4, "/nowhere.yml: cannot read it"),
        (("--plot", "year.txt"), 2, "must end in one of .svg, .png, .pdf"),
        (("--plot", "/nowhere/year.svg"), 2, "there is no directory /nowhere"),
        (("--log", "/nowhere/log"), 2, "there is no directory /nowhere"),
        (("--log", "/"), 2, "that is a directory"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    configs: list[str],
    arguments: tuple[str, ...],
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    result = simulate(*configs, *arguments)
    assert result.exit_code == status, result.output
    assert says in result.stderr


@pytest.mark.parametrize("start", ["1971-01-01", "2900-12-31T23:00"])
@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_the_first_and_the_last_day_that_it_may_begin_on(
    configs: list[str], start: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    outage = ("--outage", "link app-backup daily 00:00 for 100y")
    result = simulate(*configs, "--for", "3h", "--start", start, *outage)
    assert result.exit_code == 1, result.output
    assert "the link from backup to app is down" in result.stdout


def test_a_missing_peer_is_told(configs: list[str]) -> None:
    result = simulate("--config", configs[3])
    assert result.exit_code == 2
    assert "give the config of app.example.com with --peer FILE" in result.stderr


def test_a_config_in_front_of_the_command_and_one_behind_are_two(configs: list[str]) -> None:
    result = CliRunner().invoke(app, [*configs[:2], "simulate", *configs])
    assert result.exit_code == 2
    assert "--config is given 2 times" in result.stderr


def test_what_is_of_no_effect_is_told(configs: list[str]) -> None:
    options = ("--manual-every", "1h", "--workload", "backup:* writes=1GiB")
    result = simulate(*configs, "--for", "1h", *options, "--workload", "app:* writes=1GiB")
    assert result.exit_code == 0, result.output
    assert "--manual-every is of no effect: no job has manual snapshotting" in result.stdout
    assert (
        "'backup:* writes=1GiB' is of no effect: nothing is written on host backup" in result.stdout
    )
    assert "app:*" not in result.stdout


def test_who_was_taken_for_the_peer_is_told(configs: list[str], tmp_path: Path) -> None:
    elsewhere = PULL.replace("app.example.com", "elsewhere.example.com")
    (tmp_path / "backup.yml").write_text(elsewhere)
    result = simulate(*configs, "--for", "1h")
    assert result.exit_code == 0, result.output
    assert (
        "backup: job pull connects to elsewhere.example.com, and no host here is called so: taken for app"
        in result.stdout
    )


def test_a_plot_without_its_library_is_refused_with_how_to_get_it(
    configs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "zrepl_trio.simulate.plot", raising=False)
    result = simulate(*configs, "--plot", str(tmp_path / "year.svg"))
    assert result.exit_code == 2
    assert "-m pip install matplotlib" in result.stderr
    assert "a table" in result.stderr


@pytest.mark.slow
def test_a_backend_for_windows_that_matplotlib_does_not_know_is_of_no_effect(
    configs: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "year.SVG"
    argv = [
        sys.executable,
        "-m",
        "zrepl_trio",
        "simulate",
        *configs,
        "--for",
        "1h",
        "--plot",
        str(plot),
    ]
    done = subprocess.run(
        argv, env={**os.environ, "MPLBACKEND": "bogus"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert plot.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("option", ["--log", "--plot"])
def test_what_is_refused_leaves_outputs_as_they_are(
    configs: list[str], tmp_path: Path, option: str
) -> None:
    precious = tmp_path / "precious.svg"
    precious.write_text("of worth")
    refused = [
        simulate("--config", "/nowhere.yml", option, str(precious)),
        simulate(*configs, "--workload", "tank/nowhere", option, str(precious)),
        simulate(*configs, "--for", "0d", option, str(precious)),
    ]
    assert [result.exit_code for result in refused] == [4, 2, 2]
    assert precious.read_text() == "of worth"


def test_an_output_is_none_of_what_is_read_or_written_otherwise(tmp_path: Path) -> None:
    config, included = tmp_path / "app.svg", tmp_path / "more.yml"
    config.write_text("include: [more.yml]\njobs: []\n")
    included.write_text(SOURCE)
    (tmp_path / "link.svg").hardlink_to(config)
    (tmp_path / "more.svg").hardlink_to(included)
    arguments = ["--config", str(config), "--for", "1h"]
    for name in ("app.svg", "more.svg", "link.svg"):
        for option in ("--log", "--plot"):
            result = simulate(*arguments, option, str(tmp_path / name))
            assert result.exit_code == 2, result.output
            assert f"{option} {tmp_path}/{name}: that is read or written otherwise" in result.stderr
    new = str(tmp_path / "new.svg")
    assert simulate(*arguments, "--log", new, "--plot", new).exit_code == 2
    assert config.read_text().startswith("include")
    assert included.read_text() == SOURCE


def test_a_log_that_cannot_be_written_is_told_after_the_report(configs: list[str]) -> None:
    result = simulate(*configs, "--for", "6h", "--log", "/dev/full")
    assert result.exit_code == 1
    assert "Nothing needed a person." in result.stdout
    assert "--log /dev/full: No space left on device; the log is not whole" in result.stderr


def test_a_plot_that_cannot_be_written_is_told_after_the_report(
    configs: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "full.svg").symlink_to("/dev/full")
    result = simulate(*configs, "--for", "6h", "--plot", str(tmp_path / "full.svg"))
    assert result.exit_code == 1
    assert "Nothing needed a person." in result.stdout
    assert "full.svg: No space left on device; nothing was drawn" in result.stderr


@pytest.mark.slow
def test_a_plot_that_is_the_same_each_time(configs: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    outage = ["--outage", "link app-backup 2026-01-02 for 6h"]
    plots = [tmp_path / name for name in ("one.svg", "two.svg", "three.png")]
    for path in plots:
        result = simulate(*configs, "--for", "3d", *outage, "--plot", str(path))
        assert result.exit_code == 0, result.output
        assert f"The plot is in {path}" in result.stdout
    one, two, three = (path.read_bytes() for path in plots)
    assert one == two
    assert one.startswith(b"<?xml")
    assert three.startswith(b"\x89PNG")


def test_a_plot_of_what_has_no_copies(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "app.yml").write_text(SOURCE)
    result = simulate(
        "--config", f"{tmp_path}/app.yml", "--for", "3h", "--plot", str(tmp_path / "p.png")
    )
    assert result.exit_code == 0, result.output
