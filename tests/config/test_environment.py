"""zrepl's variables: each has its meaning, or is told to have none."""

from __future__ import annotations

import re

import pytest

from tests.support.docs import ROOT
from zrepl_trio.config.environment import (
    READ,
    WITHOUT_EFFECT,
    Tuning,
    ignored,
    read_tuning,
)
from zrepl_trio.errors import Refused

ATTEMPTS = "ZREPL_REPLICATION_MAX_ATTEMPTS"
RECONNECT = "ZREPL_REPLICATION_RECONNECT_HARD_FAIL_TIMEOUT"
HOOK_LOG = "ZREPL_MAX_HOOK_LOG_SIZE"


@pytest.mark.parametrize(
    ("environ", "tuning"),
    [
        ({}, Tuning(attempts=3, reconnect_s=600, hook_log_bytes=1048576)),
        ({ATTEMPTS: "", RECONNECT: "", HOOK_LOG: ""}, Tuning()),
        ({ATTEMPTS: "7"}, Tuning(attempts=7)),
        ({RECONNECT: "1m30s"}, Tuning(reconnect_s=90)),
        ({RECONNECT: "0"}, Tuning(reconnect_s=0)),
        ({HOOK_LOG: "4096"}, Tuning(hook_log_bytes=4096)),
    ],
)
def test_what_it_says_and_zrepls_defaults_else(environ: dict[str, str], tuning: Tuning) -> None:
    assert read_tuning(environ) == tuning


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (ATTEMPTS, "many"),
        (ATTEMPTS, "-1"),
        (ATTEMPTS, "0"),
        (ATTEMPTS, "1.5"),
        (ATTEMPTS, "9" * 30),
        (RECONNECT, "10"),
        (RECONNECT, "-10s"),
        (RECONNECT, "1d"),
        (HOOK_LOG, "1 MiB"),
    ],
)
def test_nonsense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Refused, match=re.escape(f"{name}={value!r} in the environment")):
        read_tuning({name: value})


def test_what_is_set_in_vain_is_told_and_nothing_else() -> None:
    environ = {
        "PATH": "/bin",
        "ZREPL_FS": "a hook's",
        ATTEMPTS: "2",
        "ZREPL_KEYLOG_FILE": "/keys",
        "ZREPL_RPC_DEBUG": "",
        "ZREPL_DESTROY_MAX_BATCH_SIZE": "10",
        "ZREPL_ZFS_DEBUG": "1",
    }
    told = ignored(environ)
    assert [text.partition(" is set ")[0] for text in told] == [
        "ZREPL_DESTROY_MAX_BATCH_SIZE",
        "ZREPL_ZFS_DEBUG",
    ]
    assert all("has no effect here: " in text for text in told)


def test_the_page_has_those_that_are_read_and_the_others_by_their_number() -> None:
    page = (ROOT / "docs/config.md").read_text().partition("## Environment\n")[2]
    section = page.partition("\n## ")[0]
    assert set(re.findall(r"^\| `(ZREPL_\w+)`", section, re.MULTILINE)) == set(READ)
    assert set(re.findall(r"`(Z\w+|IO\w+)`", section)) <= {*READ, *WITHOUT_EFFECT}
    assert len({*READ, *WITHOUT_EFFECT}) == 37  # behaviour reference, 2
