"""The ssh command line against the wire reference's vector, and what must never reach it."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from zrepl_trio.errors import Refused
from zrepl_trio.transport.sshargs import SshTarget, ssh_argv

TARGET = SshTarget(host="h", user="u", port=2222, identity_file="/id", options=("Compression=yes",))


def test_argv_is_the_vector_of_the_reference() -> None:
    expected = "ssh -p 2222 -T -i /id -o BatchMode=yes -o Compression=yes u@h"
    assert ssh_argv(TARGET) == expected.split(" ")


def test_options_keep_their_order_and_ssh_command_leads() -> None:
    target = SshTarget(
        host="fe80::1%eth0",
        user="backup user".replace(" ", "-"),
        port=22,
        identity_file="/a b/id",
        options=("A=1", "-oB=2", "UserKnownHostsFile=/x y"),
        ssh_command="/opt/ssh",
    )
    assert ssh_argv(target) == [
        *("/opt/ssh", "-p", "22", "-T", "-i", "/a b/id", "-o", "BatchMode=yes"),
        *("-o", "A=1", "-o", "-oB=2", "-o", "UserKnownHostsFile=/x y", "backup-user@fe80::1%eth0"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": "-oProxyCommand=x"}, "host '-oProxyCommand=x' starts with '-'"),
        ({"user": "-l"}, "user '-l' starts with '-'"),
        ({"ssh_command": "-x"}, "ssh_command '-x' starts with '-'"),
        ({"identity_file": "-x"}, "identity_file '-x' starts with '-'"),
        ({"host": ""}, "host is empty"),
        ({"user": ""}, "user is empty"),
        ({"identity_file": ""}, "identity_file is empty"),
        ({"host": "a@b"}, "has '@' or '/'"),
        ({"host": "ssh://b"}, "has '@' or '/'"),
        ({"host": "a b"}, "white space"),
        ({"user": "a\tb"}, "white space"),
        ({"options": ("A=1\nB=2",)}, "control character"),
        ({"identity_file": "/a\0b"}, "control character"),
        ({"port": 0}, "port 0 is not within"),
        ({"port": 65536}, "port 65536 is not within"),
    ],
)
def test_what_ssh_could_misread_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(Refused) as caught:
        SshTarget(**{**asdict(TARGET), **changes})
    assert said in str(caught.value)
