from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import scratch
from zrepl_trio.demo import openssh
from zrepl_trio.demo.openssh import find_sshd
from zrepl_trio.demo.stage import check_place, sshd_problem
from zrepl_trio.errors import Refused


@pytest.fixture
def place() -> Iterator[Path]:
    with scratch() as directory:
        yield directory


@pytest.mark.sshd
@pytest.mark.slow
@pytest.mark.skipif(find_sshd() is None, reason="OpenSSH's sshd is not installed")
async def test_where_a_login_works_there_is_no_problem(place: Path) -> None:
    assert await sshd_problem(place) == ""


@pytest.mark.sshd
@pytest.mark.slow
@pytest.mark.skipif(find_sshd() is None, reason="OpenSSH's sshd is not installed")
async def test_an_account_that_sshd_refuses_is_told_in_sshs_words(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssh, "_CONFIG", openssh._CONFIG + "DenyUsers *\n")
    assert "Permission denied" in await sshd_problem(place)


async def test_without_sshd_the_demo_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zrepl_trio.demo.stage.find_sshd", lambda: None)
    assert "not all installed" in await sshd_problem(place)


def test_a_place_whose_sockets_would_have_too_long_paths_is_refused(place: Path) -> None:
    room = 107 - len(str(place / "source/run/stdinserver/backup.example.com"))
    check_place(place / ("d" * (room - 1)))
    with pytest.raises(Refused, match="would have 108 bytes, of 107 possible"):
        check_place(place / ("d" * room))


def test_a_place_that_others_may_swap_is_refused(place: Path) -> None:
    open_to_all = place / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (open_to_all / "demo").mkdir(mode=0o700)
    with pytest.raises(Refused, match="chmod o-w"):
        check_place(open_to_all / "demo")
