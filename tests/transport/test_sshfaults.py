"""What ssh's own words are turned into; the words are those of OpenSSH 6.x to 10.x."""

from __future__ import annotations

import pytest

from zrepl_trio.transport.sshargs import SshTarget
from zrepl_trio.transport.sshfaults import advice_for, ended_text, shown_stderr

TARGET = SshTarget(host="app", user="root", port=2222, identity_file="/etc/id")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ('command-line: line 0: unsupported option "on".', "yes or no"),
        ('command-line line 0: unsupported option "on".', "yes or no"),
        ("command-line: line 0: Bad configuration option: compresion", "connect.options"),
        ("command-line line 0: missing argument.", "connect.options"),
        (
            "No ED25519 host key is known for app and you have requested strict",
            "ssh-keyscan -p 2222",
        ),
        ("Host key verification failed.", "`ssh-keyscan -p 2222 app`"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verif", "find out why"),
        ("root@app: Permission denied (publickey).", "authorized_keys of root on app"),
        ("Received disconnect: Too many authentication failures", "authorized_keys"),
        ("ssh: connect to host app port 2222: Connection refused", "app port 2222: is sshd"),
        ("ssh: Could not resolve hostname app: Name or service not known", "connect.host 'app'"),
        ("ssh: connect to host app port 2222: No route to host", "cannot be reached"),
        ("ssh: connect to host app port 2222: Connection timed out", "cannot be reached"),
        ("kex_exchange_identification: Connection closed by remote host", "MaxStartups"),
        ("@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nPermission denied", "chmod 0600 /etc/id"),
        (
            "Warning: Identity file /etc/id not accessible: No such file\nPermission denied",
            "must name a private key",
        ),
        ('Load key "/etc/id": Permission denied\nroot@app: Permission denied', "can read"),
        ('Load key "/etc/id": error in libcrypto\nPermission denied', "without passphrase"),
    ],
)
def test_known_words_bring_advice(words: str, advice: str) -> None:
    text = ended_text(255, words.encode(), TARGET)
    assert text.startswith(f"ssh ended with status 255: {words.splitlines()[0].strip('@ ')}")
    assert advice in text


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (127, "absolute path"),
        (126, "absolute path"),
        (0, "was not `zrepl-trio stdinserver`"),
        (1, ""),
    ],
)
def test_a_status_alone_brings_advice(status: int, advice: str) -> None:
    assert advice in advice_for(status, b"unheard of", TARGET)
    assert bool(advice) is bool(advice_for(status, b"unheard of", TARGET))


def test_a_signal_is_told() -> None:
    assert ended_text(-9, b"", TARGET) == "ssh was killed by signal 9"


def test_words_are_one_harmless_bounded_line() -> None:
    assert shown_stderr(b"a\r\n\n  b\x1b[2J\xff\n") == r"a; b\x1b[2J\xff"
    framed = b"@@@@@@@@@\n@  WARNING: CHANGED!  @\n@@@@@@@@@\ngit@app: no\n"
    assert shown_stderr(framed) == "WARNING: CHANGED!; git@app: no"
    assert len(shown_stderr(b"x" * 40_000)) == 2001
