"""The blocks of docs/takeover.md that are no commands of ours."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.docs.test_readme import parse_command
from tests.support.docs import ROOT, block

PAGE = "docs/takeover.md"
OPTIONS = ",restrict ssh-ed25519 AAAA zrepl stdinserver"
OURS = 'command="/usr/local/bin/zrepl-trio stdinserver '


def test_the_lines_of_authorized_keys_call_ours_and_nothing_else_changes(tmp_path: Path) -> None:
    keys = tmp_path / "authorized_keys"
    others = [
        "ssh-ed25519 AAAA root@desk",
        'command="rsync --server",restrict ssh-ed25519 AAAA zrepl stdinserver',
        f'command="zrepl --config /etc/x.yml stdinserver a"{OPTIONS}',
        f'{OURS}b"{OPTIONS}',
    ]
    before = [
        f'command="{program} stdinserver a"{OPTIONS}' for program in ("zrepl", "/usr/bin/zrepl")
    ]
    keys.write_text("\n".join([*before, *others]))
    told = block("keys", PAGE).replace("/root/.ssh", str(tmp_path))
    subprocess.run(["sh", "-e", "-c", told], check=True)
    assert keys.read_text().splitlines() == [f'{OURS}a"{OPTIONS}'] * 2 + others
    assert (tmp_path / "authorized_keys.zrepl").read_text().splitlines() == [*before, *others]


def test_the_unit_runs_commands_that_exist_and_excludes_zrepl() -> None:
    text = (ROOT / PAGE).read_text()
    (path,) = re.findall(r"^cp (\S+) /etc/systemd/system/$", text, re.MULTILINE)
    unit = (ROOT / path).read_text()
    assert "Conflicts=zrepl.service" in unit
    (line,) = [line for line in unit.splitlines() if line.startswith("Exec")]
    program, *words = line.partition("=")[2].split()
    assert program == "/usr/local/bin/zrepl-trio"
    parse_command(words)
