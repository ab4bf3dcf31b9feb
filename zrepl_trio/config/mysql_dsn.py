"""How `mysql-lock-tables` names its server: `[USER[:PASSWORD]@][PROTOCOL[(ADDRESS)]]/[DBNAME][?PARAMS]`,
the form of zrepl's client. Pure.

No error quotes a value: any may be part of a password that was not escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Self
from urllib.parse import unquote, unquote_plus

from zrepl_trio.config.hostnames import HOST_RULE, is_host
from zrepl_trio.config.scalars import ScalarError, parse_go_duration

__all__ = ["MYSQL_DSN_WORDS", "MysqlDsn", "Tls"]

MYSQL_DSN_WORDS = (
    "`USER:PASSWORD@tcp(HOST:3306)/`, or `USER:PASSWORD@unix(/run/mysqld/mysqld.sock)/`"
)

_TCP = ("tcp", "tcp4", "tcp6")
_DURATIONS = ("timeout", "readTimeout", "writeTimeout")
_FLAGS = ("allowCleartextPasswords", "allowOldPasswords")
_KNOWN = ", ".join(("tls", *_DURATIONS, "charset", "collation", *_FLAGS))
_TRUE, _FALSE = ("1", "true", "TRUE", "True"), ("0", "false", "FALSE", "False")


class Tls(Enum):
    """What is demanded of the connection; the parameter's words."""

    OFF = "false"
    ON = "true"
    """With a certificate that the system's authorities vouch for, of that very host."""
    SKIP_VERIFY = "skip-verify"
    PREFERRED = "preferred"
    """If the server can; its certificate is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlDsn:
    """A checked DSN. `socket` is the path of a UNIX socket and then host and port mean nothing.
    `family` is tcp, or tcp4 or tcp6 for IPv4 or IPv6 alone. `connect_s` and `io_s` are limits of its own, None for none. No repr shows `text` or `password`."""

    text: str = field(repr=False)
    user: str
    password: str = field(repr=False)
    socket: str = ""
    host: str = ""
    port: int = 3306
    family: str = "tcp"
    database: str = ""
    tls: Tls = Tls.OFF
    charset: str = "utf8mb4"
    collation: str = ""
    connect_s: float | None = None
    io_s: float | None = None
    cleartext: bool = False
    old_passwords: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `text` says; ScalarError when the form is another one or a parameter unknown here."""
        left, slash, right = text.rpartition("/")
        if not slash:
            raise ScalarError("has no / before the database's name", MYSQL_DSN_WORDS)
        credentials, _, where = left.rpartition("@")
        user, _, password = credentials.partition(":")
        database, _, query = right.partition("?")
        socket, family, host, port = _address(where)
        given = _parameters(query)
        return cls(
            text=text,
            user=user,
            password=password,
            socket=socket,
            host=host,
            port=port,
            family=family,
            database=unquote(database),
            tls=_tls(given.get("tls", Tls.OFF.value)),
            charset=_name(given, "charset") or "utf8mb4",
            collation=_name(given, "collation"),
            connect_s=_seconds(given, "timeout"),
            io_s=min(
                (s for name in _DURATIONS[1:] if (s := _seconds(given, name)) is not None),
                default=None,
            ),
            cleartext=_flag(given, "allowCleartextPasswords"),
            old_passwords=_flag(given, "allowOldPasswords"),
        )

    @property
    def place(self) -> str:
        """The server, for people."""
        if self.socket:
            return self.socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.place


def _address(where: str) -> tuple[str, str, str, int]:
    """UNIX socket, protocol, host and port."""
    protocol, bracket, address = where.partition("(")
    if bracket and not address.endswith(")"):
        raise ScalarError("the address does not end with )", MYSQL_DSN_WORDS)
    address = address.removesuffix(")")
    protocol = protocol or "tcp"
    if protocol == "unix":
        return address or "/tmp/mysql.sock", protocol, "", 0  # noqa: S108 - the client's default
    if protocol not in _TCP:
        raise ScalarError(
            "the protocol is none of those that are known", ", ".join((*_TCP, "unix"))
        )
    host, port = address or "127.0.0.1", "3306"
    if match := re.fullmatch(r"\[([^\[\]]+)\](?::([^:]*))?|([^:\[\]]*)(?::([^:]*))?", host):
        host, port = match[1] or match[3] or "localhost", match[2] or match[4] or "3306"
    else:
        raise ScalarError("the address is not HOST:PORT, with IPv6 in brackets", MYSQL_DSN_WORDS)
    if not is_host(host):
        raise ScalarError("the host cannot be looked up", HOST_RULE)
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise ScalarError("the port is not a number from 1 to 65535", MYSQL_DSN_WORDS)
    return "", protocol, host, int(port)


def _parameters(query: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ScalarError("behind ? stand no `name=value` pairs joined by &", _KNOWN)
        if name not in ("tls", "charset", "collation", *_DURATIONS, *_FLAGS):
            plain = re.fullmatch(r"[A-Za-z_]{1,40}", name)
            what = f"the parameter {name}" if plain else "a parameter"
            raise ScalarError(
                f"{what} is not known here: for taking a lock it means nothing", _KNOWN
            )
        found[name] = unquote_plus(value)
    return found


def _tls(text: str) -> Tls:
    if text.lower() in ("skip-verify", "preferred"):
        return Tls(text.lower())
    if text in _TRUE or text in _FALSE:
        return Tls.ON if text in _TRUE else Tls.OFF
    raise ScalarError("tls has an unknown value", ", ".join(each.value for each in Tls))


def _name(given: Mapping[str, str], parameter: str) -> str:
    first = given.get(parameter, "").partition(",")[0]  # zrepl's client tries one after the other
    if not re.fullmatch(r"[A-Za-z0-9_]*", first, re.ASCII):
        raise ScalarError(f"{parameter} is not a name", "charset=utf8mb4")
    return first


def _seconds(given: Mapping[str, str], name: str) -> float | None:
    if name not in given:
        return None
    try:
        seconds = parse_go_duration(given[name])
    except ScalarError:
        seconds = -1.0
    if seconds < 0:
        raise ScalarError(f"{name} is not a duration", f"{name}=10s")
    return seconds or None


def _flag(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "false")
    if value not in _TRUE and value not in _FALSE:
        raise ScalarError(f"{name} is neither true nor false", "true or false")
    return value in _TRUE
