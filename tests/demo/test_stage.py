from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import scratch
from zrepl_trio.demo import openssh
from zrepl_trio.demo.openssh import find_sshd
from zrepl_trio.demo.stage import sshd_problem


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
