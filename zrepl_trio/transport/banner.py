"""The greeting over ssh: three messages of exactly 31 bytes (wire reference 1.1, vectors 11A).

The daemon sends HELO (or the proxy its error), the client answers BEGIN. Nothing frames them, so
whatever the remote shell prints first ends up in HELO's place. What a client sends as BEGIN is
not looked at, as zrepl doesn't either.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["BEGIN", "HELO", "MESSAGE_BYTES", "PROXY_ERROR", "Greeting", "greeting_of", "printable"]

MESSAGE_BYTES = 31

HELO = b"SSHCON_HELO".ljust(MESSAGE_BYTES, b"\0")
PROXY_ERROR = b"SSHCON_PROXY_ERROR".ljust(MESSAGE_BYTES, b"\0")
BEGIN = b"SSHCON_BEGIN".ljust(MESSAGE_BYTES, b"\0")


class Greeting(Enum):
    """What the first 31 bytes from the serving side are."""

    HELO = "helo"
    PROXY_ERROR = "proxy error"
    NOISE = "noise"


def greeting_of(message: bytes) -> Greeting:
    """What `message`, 31 bytes, is; noise is anything unknown."""
    match message:
        case b if b == HELO:
            return Greeting.HELO
        case b if b == PROXY_ERROR:
            return Greeting.PROXY_ERROR
        case _:
            return Greeting.NOISE


def printable(data: bytes) -> str:
    """The bytes for an error's text: quoted, no character acts on a terminal, NULs at the end
    left out."""
    return ascii(data.rstrip(b"\0").decode("utf-8", "backslashreplace"))
