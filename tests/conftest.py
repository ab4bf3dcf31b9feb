"""What needs something of the machine says so by a marker, and is skipped with a reason here."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.interop.pools import World, two_pools
from tests.interop.sshd import Sshd, running_sshd
from tests.support.databases import find_mariadb, find_postgres
from zrepl_trio.demo.openssh import find_sshd

# how long an example takes says more about the machine's other work than about the code
settings.register_profile("zrepl-trio", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zrepl-trio")

# what these assert, too, is told with its values
pytest.register_assert_rewrite(
    *(f"tests.interop.{name}" for name in ("asked", "cells", "returns", "scenarios", "takeovers"))
)


# a shell's background job starts with SIGINT ignored, and so would all that the tests interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _sshd_missing() -> bool:
    if os.environ.get("ZREPL_TRIO_REQUIRE_SSHD"):
        return False  # then a missing sshd fails the tests instead of skipping them
    return (
        shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is None
    )


def _zfs_missing() -> bool:
    return not os.path.exists("/dev/zfs")


def pytest_configure() -> None:
    """Where sshd is required, its absence ends the run: no test's own skip may hide it."""
    if os.environ.get("ZREPL_TRIO_REQUIRE_SSHD") and find_sshd() is None:
        raise pytest.UsageError(
            "ZREPL_TRIO_REQUIRE_SSHD is set, but sshd, ssh or ssh-keygen is missing"
        )
    if os.environ.get("ZREPL_TRIO_REQUIRE_DATABASES") and not (find_postgres() and find_mariadb()):
        raise pytest.UsageError(
            "ZREPL_TRIO_REQUIRE_DATABASES is set, but PostgreSQL or MariaDB is missing"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {
        "sshd": ("no sshd here (Debian/Ubuntu: apt install openssh-server)", _sshd_missing()),
        "zfs": (
            "no real OpenZFS here: `make test-zfs` runs this in a virtual machine",
            _zfs_missing(),
        ),
        "postgres": (
            "no PostgreSQL server here (Debian/Ubuntu: apt install postgresql)",
            find_postgres() is None,
        ),
        "mariadb": (
            "no MariaDB server here (Debian/Ubuntu: apt install mariadb-server)",
            find_mariadb() is None,
        ),
        "interop": (
            "no real zrepl: make test-interop ZREPL=/path/to/zrepl",
            not os.environ.get("ZREPL"),
        ),
    }
    for item in items:
        for marker, (reason, missing) in reasons.items():
            if missing and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("zfs") and not _is_collected_there(item.path):
            raise pytest.UsageError(f"{item.path}: scripts/test-zfs passes its tests by")


@cache
def _is_collected_there(path: Path) -> bool:
    """Whether scripts/test-zfs looks for something to run in the file."""
    return bool({"platform", "interop"} & set(path.parts)) or "mark.zfs" in path.read_text()


def pytest_itemcollected(item: pytest.Item) -> None:
    if "world" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.world)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two pools for pairs of daemons: on real OpenZFS where there is one, else emulated."""
    with two_pools(tmp_path_factory.mktemp("pools")) as made:
        yield made


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An OpenSSH server of the tests' own."""
    with running_sshd(tmp_path_factory.mktemp("ssh") / "sshd") as started:
        yield started
