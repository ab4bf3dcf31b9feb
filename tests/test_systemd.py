"""The unit: systemd understands it, and it fits the daemon."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.docs import ROOT
from zrepl_trio import daemon
from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.config.model import DEFAULT_CONTROL_SOCKET, DEFAULT_SOCKDIR
from zrepl_trio.logs.outlets import FLUSH_S

UNIT = ROOT / "conf/systemd/zrepl-trio.service"
DOCS = (ROOT / "docs/systemd.md").read_text()


def settings() -> dict[str, list[str]]:
    found = defaultdict(list)
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found[name].append(value)
    return found


def test_it_fits_the_daemon() -> None:
    unit = settings()
    assert unit["Type"] == ["notify"]
    assert unit["ExecStart"] == ["/usr/local/bin/zrepl-trio run"]
    made = {f"/var/run/{name}" for name in unit["RuntimeDirectory"][0].split()}
    assert made == {str(Path(DEFAULT_CONTROL_SOCKET).parent), DEFAULT_SOCKDIR}
    slowest = daemon.STOP_S + daemon.LAST_WORDS_S + FLUSH_S
    assert int(unit["TimeoutStopSec"][0]) > slowest
    hopeless = {int(code) for code in unit["RestartPreventExitStatus"][0].split()}
    assert hopeless == {ExitCode.USAGE, ExitCode.CONFIG}


def test_the_drop_in_for_mounting_lifts_all_that_makes_a_mount_namespace() -> None:
    (drop_in,) = re.findall(r"```\n\[Service\]\n(.*?)```", DOCS, re.DOTALL)
    lifted = dict(line.split("=") for line in drop_in.split())
    # systemd.exec(5): these, when on, give the service a mount namespace of its own
    makers = re.compile(r"Private(Tmp|Devices|Mounts)|Protect(System|Home|Proc|Kernel.*|Control.*)")
    made = {name for name in settings() if makers.fullmatch(name)} | {"ReadWritePaths"}
    assert made == lifted.keys() - {"SystemCallFilter"}
    assert set(lifted.values()) == {"no", "default", "", "@mount"}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_understands_it(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/zrepl-trio run", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if UNIT.stem in line]
    assert complaints == []
