"""Where the C library is looked for. That it works, the conformance suite shows on real OpenZFS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.resources import until
from zrepl_trio.children import open_processes
from zrepl_trio.errors import DatasetBlocked, ZfsError
from zrepl_trio.zfs import library_program
from zrepl_trio.zfs.library import Library, soname_in

ELF = b"\x7fELF\x02\x01\x01"


@pytest.mark.parametrize(
    ("program", "soname"),
    [
        (ELF + b"\0libc.so.6\0libzfs_core.so.3\0libzfs.so.6\0", "libzfs_core.so.3"),
        (ELF + b"\0libzfs_core.so.12\0", "libzfs_core.so.12"),
        (ELF + b"\0libc.so.6\0", None),
        (ELF + b"\0/evil/libzfs_core.so.3\0", None),
        (b"#!/bin/sh\n\0libzfs_core.so.3\0", None),
        (b"", None),
    ],
)
def test_the_library_is_the_one_that_the_program_is_linked_with(
    program: bytes, soname: str | None
) -> None:
    assert soname_in(program) == soname


async def _there(zfs: str) -> bool:
    async with open_processes() as processes:
        library = Library(processes, zfs=zfs, command_s=60)
        there = await library.there()
        if not there:
            with pytest.raises(ZfsError, match="no libzfs_core"):
                await library.change({"tank/a#b": ("tank/a@b", 1)}, [])
        return there


async def test_no_library_where_zfs_is_missing_or_a_script(tmp_path: Path) -> None:
    assert not await _there(str(tmp_path / "nosuch"))
    script = tmp_path / "zfs"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert not await _there(str(script))


async def test_no_library_where_it_cannot_be_loaded_or_is_another(tmp_path: Path) -> None:
    program = tmp_path / "zfs"
    program.write_bytes(ELF + b"\0libzfs_core.so.999\0")
    program.chmod(0o755)
    assert not await _there(str(program))


@pytest.mark.parametrize("soname", ["libzfs_core.so.999", "libc.so.6"])
def test_the_program_says_what_is_missing(soname: str) -> None:
    program = str(Path(library_program.__file__))
    done = subprocess.run(
        [sys.executable, "-I", "-S", program, soname],
        input=json.dumps({"make": {}, "destroy": []}),
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == library_program.NO_LIBRARY
    assert done.stderr.startswith(f"{soname}: ")


async def test_beside_one_that_hangs_for_good_no_other_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zfs = tmp_path / "zfs"
    zfs.write_bytes(ELF + b"\0libzfs_core.so.3\0")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ -e "$0.hangs" ] || exit 0\nexec sleep 60\n')
    for program in (zfs, python):
        program.chmod(0o755)
    monkeypatch.setattr("zrepl_trio.zfs.library.sys.executable", str(python))
    monkeypatch.setattr("zrepl_trio.children._RUN_KILL_S", 0.05)
    async with open_processes(kill_group=lambda _pid, _signal: None) as processes:
        library = Library(processes, zfs=str(zfs), command_s=0.1)
        assert await library.there()
        (tmp_path / "python.hangs").touch()
        try:
            with pytest.raises(ZfsError, match="did nothing for"):
                await library.change({"t/a#b": ("t/a@b", 1)}, [])
            with pytest.raises(DatasetBlocked, match="is not started again"):
                await library.change({"t/a#b": ("t/a@b", 1)}, [])
            assert len(processes.stuck) == 1
        finally:
            for child in processes.stuck:
                os.kill(child.pid, signal.SIGKILL)
            await until(lambda: not processes.stuck)


@pytest.mark.zfs
async def test_the_real_program_has_one() -> None:
    assert await _there(shutil.which("zfs") or "zfs")
