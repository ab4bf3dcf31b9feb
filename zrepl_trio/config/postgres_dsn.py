"""How `postgres-checkpoint` names its server: a connection string as zrepl's client reads it. Pure.

Two forms: `key=value` pairs as of libpq, and URLs. What the string leaves out comes from libpq's
environment variables and then from zrepl's defaults, which are not libpq's: TCP to localhost, and
encryption required (never over a UNIX socket). No error quotes a value: any may be part of a
password that was not escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from zrepl_trio.config.hostnames import HOST_RULE, is_host
from zrepl_trio.config.scalars import ScalarError

__all__ = ["POSTGRES_DSN_WORDS", "PostgresDsn"]

POSTGRES_DSN_WORDS = "`host=/run/postgresql user=backup dbname=postgres`, or postgres://USER:PASSWORD@HOST:PORT/DBNAME"

_PARAMETERS = (
    "host",
    "port",
    "user",
    "password",
    "passfile",
    "dbname",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "krbsrvname",
    "connect_timeout",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "options",
)
_KNOWN = ", ".join(_PARAMETERS)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_PAIR = re.compile(
    r"\s*([^\s=']+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*|)(?=\s|$)"
)


@dataclass(frozen=True, slots=True)
class PostgresDsn:
    """A checked connection string. `text` is as it was written; neither shows in a repr."""

    text: str = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `text` says; ScalarError when libpq would not take it, or we do not know a part."""
        pairs = _of_url(text) if re.match(r"postgres(ql)?://", text) else _of_pairs(text)
        found: dict[str, str] = {}
        for name, value in pairs:
            if name not in _PARAMETERS:
                raise ScalarError(
                    f"{_named(name)} is not known here; what the server is to be set to goes into "
                    "options, as in options='-c NAME=VALUE'",
                    _KNOWN,
                )
            if value:
                found[name] = value
        _check(found)
        return cls(text, found)

    def connection(self, environ: Mapping[str, str]) -> dict[str, str]:
        """All that libpq is to be told, zrepl's defaults included; `connect_timeout` left out."""
        told = {name: text for name, text in self.parameters.items() if name != "connect_timeout"}
        if not told.get("host") and not environ.get("PGHOSTADDR"):
            told["host"] = environ.get("PGHOST") or "localhost"
        if not told.get("sslmode") and not environ.get("PGSSLMODE"):
            told["sslmode"] = "require"
        told.setdefault("fallback_application_name", "zrepl-trio")
        # zrepl's client knows no encryption by Kerberos, which libpq would try first
        return {**told, "gssencmode": "disable"}

    @property
    def connect_timeout_s(self) -> float | None:
        """Its own limit for connecting; None for none."""
        return float(self.parameters.get("connect_timeout", "0")) or None

    @property
    def place(self) -> str:
        """The server, for people."""
        host, port = self.parameters.get("host", "localhost"), self.parameters.get("port", "")
        return f"{host}:{port}" if port else host

    def __str__(self) -> str:
        return self.place


def _of_pairs(text: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _PAIR.match(text, at)
        if match is None:
            raise ScalarError(
                f"is not `name=value` pairs from character {at + 1} on (a value with blanks stands in "
                "'…', with \\' for a quote and \\\\ for a backslash)",
                POSTGRES_DSN_WORDS,
            )
        value = match[2].removeprefix("'").removesuffix("'") if match[2][:1] == "'" else match[2]
        yield match[1], re.sub(r"\\(.)", r"\1", value)
        at = match.end()


def _of_url(text: str) -> Iterator[tuple[str, str]]:
    hint = "in a URL write %23 for #, %2F for /, %3A for :, %3F for ?, %40 for @"
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ScalarError(f"is not a URL with a host and a port; {hint}", _KNOWN) from None
    if url.fragment or "#" in text:
        raise ScalarError(f"holds a bare #; {hint}", POSTGRES_DSN_WORDS)
    yield "user", unquote(url.username or "")
    yield "password", unquote(url.password or "")
    yield "host", unquote(host)
    yield "port", "" if port is None else str(port)
    yield "dbname", unquote(url.path.removeprefix("/"))
    try:
        yield from parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    except ValueError:
        raise ScalarError("behind ? stand no `name=value` pairs joined by &", _KNOWN) from None


def _check(found: Mapping[str, str]) -> None:
    if not re.fullmatch(r"[0-9]{1,5}", found.get("port", "1"), re.ASCII) or not (
        1 <= int(found.get("port", "1")) <= 65535
    ):
        raise ScalarError("port is not a number from 1 to 65535", "port=5432")
    if "," in found.get("host", ""):
        raise ScalarError("host is a list; a checkpoint is made on one server", "host=NAME")
    host = found.get("host", "")
    if not host.startswith(("/", "@")) and not is_host(host):
        raise ScalarError("the host cannot be looked up", HOST_RULE)
    if found.get("sslmode", "require") not in _SSL_MODES:
        raise ScalarError("sslmode has an unknown value", ", ".join(_SSL_MODES))
    if not re.fullmatch(r"[0-9]{1,6}", found.get("connect_timeout", "0"), re.ASCII):
        raise ScalarError("connect_timeout is not a number of whole seconds", "connect_timeout=10")


def _named(name: str) -> str:
    """The name, if it looks like one: else it may be a piece of an unescaped password."""
    plain = re.fullmatch(r"[a-z][A-Za-z_.]{0,40}", name)
    return f"the parameter {name}" if plain else "a parameter"
