"""Which directories we trust with our sockets, and what we say of the others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zrepl_trio.errors import Refused
from zrepl_trio.transport.privatedir import ensure_private_directory

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_directory_is_made_private_with_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "zrepl" / "stdinserver"
    before = os.umask(0o777)
    try:
        ensure_private_directory(str(path))
    finally:
        os.umask(before)
    assert (mode(path.parent), mode(path)) == (0o700, 0o700)
    ensure_private_directory(str(path))


def test_what_is_private_already_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir(mode=0o500)
    ensure_private_directory(f"{path}/")
    assert mode(path) == 0o500


@pytest.mark.parametrize("bits", [0o710, 0o701, 0o770, 0o755, 0o777, 0o1777])
def test_access_for_group_or_others_is_refused_with_the_mend(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "d"
    path.mkdir()
    path.chmod(bits)
    with pytest.raises(Refused) as caught:
        ensure_private_directory(str(path))
    text = str(caught.value)
    assert text.startswith(f"{path} (owner ")
    assert f"mode {bits:04o}" in text
    assert text.endswith(f"run: chmod 0700 {path}")
    assert mode(path) == bits


@needs_root
def test_another_owner_is_refused_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir(mode=0o700)
    os.chown(path, 54321, -1)
    with pytest.raises(Refused) as caught:
        ensure_private_directory(str(path))
    assert "(owner uid 54321, mode 0700) is not owned by root" in str(caught.value)
    assert f"chown root {path}" in str(caught.value)


def test_an_ancestor_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    path = open_to_all / "between" / "d"
    with pytest.raises(Refused, match=f"^{path} can be .* run: chmod o-w {open_to_all}$"):
        ensure_private_directory(str(path))
    assert list(open_to_all.iterdir()) == [], "nothing is made where others could swap it"
    open_to_all.chmod(0o1777)
    ensure_private_directory(str(path))


def test_a_symlink_is_followed_and_its_own_directory_checked(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    holder = tmp_path / "holder"
    holder.mkdir()
    (holder / "relative").symlink_to("../target")
    (holder / "absolute").symlink_to(target)
    (holder / "loop").symlink_to("loop")
    ensure_private_directory(str(holder / "relative"))
    ensure_private_directory(str(holder / "absolute"))
    with pytest.raises(Refused, match=r"loop"):
        ensure_private_directory(str(holder / "loop"))
    holder.chmod(0o777)
    with pytest.raises(Refused, match=f"chmod o-w {holder}$"):
        ensure_private_directory(str(holder / "relative"))


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_text("")
    with pytest.raises(Refused, match="is not a directory"):
        ensure_private_directory(str(path))
    with pytest.raises(Refused, match="Not a directory"):
        ensure_private_directory(str(path / "below"))
