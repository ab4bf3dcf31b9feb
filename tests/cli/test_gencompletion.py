from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zrepl_trio.cli.app import app

# What a shell does on TAB: set the words, call the function, look at its answer.
ASK = """
PATH={scripts}:$PATH
source {script}
COMP_WORDS=(zrepl-trio zfs-abstraction rel); COMP_CWORD=2
_zrepl_trio_completion zrepl-trio
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_by_the_script(tmp_path: Path) -> None:
    script = tmp_path / "script"
    assert CliRunner().invoke(app, ["gencompletion", "bash", str(script)]).exit_code == 0
    ask = ASK.format(scripts=sysconfig.get_path("scripts"), script=script)
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=False)
    assert sorted(done.stdout.split()) == ["release-all", "release-stale"]


def test_the_script_for_zsh_says_whose_it_is(tmp_path: Path) -> None:
    script = tmp_path / "_zrepl-trio"
    assert CliRunner().invoke(app, ["gencompletion", "zsh", str(script)]).exit_code == 0
    assert script.read_text().startswith("#compdef zrepl-trio\n")


def test_a_file_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["gencompletion", "bash", str(tmp_path / "no" / "file")])
    assert result.exit_code == 1
    assert result.stderr == (
        f"zrepl-trio: cannot write {tmp_path}/no/file: No such file or directory\n"
    )
