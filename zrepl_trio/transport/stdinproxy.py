"""`zrepl-trio stdinserver ID`, which sshd runs as forced command: passes its stdin and stdout on.

It copies no data. It hands the fds 0 and 1 to the daemon's socket for ID and waits until the
daemon closes the connection (wire reference 1.2). Only builtin and C modules here, and YAML
only for a config that sets the socket directory: this starts once for every data request.
"""

import _socket
import os
import sys

__all__ = ["DEFAULT_SOCKDIR", "main"]

DEFAULT_SOCKDIR = "/var/run/zrepl/stdinserver"
"""zrepl's `global.serve.stdinserver.sockdir`."""

_CONFIG_PATHS = ("/etc/zrepl/zrepl.yml", "/usr/local/etc/zrepl/zrepl.yml")
"""As `zrepl_trio.config.load.DEFAULT_PATHS`, which costs too much to import."""

_CONFIG_MAX = 1 << 20
"""The daemon takes none larger."""

_PROXY_ERROR = b"SSHCON_PROXY_ERROR".ljust(31, b"\0")
"""As `banner.PROXY_ERROR`."""

_IDENTITY_CHARACTERS = frozenset(
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.: "
)
_IDENTITY_MAX = 255

_EXPLANATION = """\
zrepl-trio stdinserver passes an ssh connection on to the daemon of this host. It is not for
typing: sshd runs it for a key that has, in authorized_keys, a line such as

  command="zrepl-trio stdinserver CLIENT_IDENTITY",restrict ssh-ed25519 AAAA...

The daemon must run, with a job that lists CLIENT_IDENTITY under serve.client_identities.
"""


class _Failed(Exception):
    """The one line for stderr."""


def main(arguments: list[str]) -> int:
    """Pass fds 0 and 1 on to the daemon and wait; `arguments` are `[--config FILE]
    [--sockdir DIR] ID`. The exit status: 0 when the daemon closed in an orderly way, else 1."""
    if os.isatty(0):
        _write(2, _EXPLANATION.encode())
        return 1
    try:
        sock = _pass_fds(arguments)
    except _Failed as failure:
        # Errors may quote what the client or the config says.
        line = "zrepl-trio stdinserver: " + "".join(
            c if c.isprintable() else ascii(c)[1:-1] for c in str(failure)
        )
        _write(2, line.encode("utf-8", "backslashreplace") + b"\n")
        if not os.isatty(1):
            _write(1, _PROXY_ERROR)
        return 1
    try:
        # Any byte will do; none means that the daemon died or refused us.
        return 0 if sock.recv(1) else 1
    except OSError:
        return 1


def _pass_fds(arguments: list[str]) -> _socket.socket:
    sockdir, identity = _parsed(arguments)
    path = os.path.join(sockdir, identity)
    try:
        os.fstat(0)
        os.fstat(1)
    except OSError:
        raise _Failed("standard input or output is closed; sshd leaves both open") from None
    sock = _connected(path, identity)
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1):
            os.set_blocking(fd, False)  # zrepl's daemon closes the connection otherwise
        fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1))
        sock.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
    except OSError as error:
        raise _Failed(f"can't pass the connection on to {path}: {error.strerror}") from None
    # With our copies open, the client would not see the daemon's half-close: sshd waits for the
    # end of stdout and stderr. (A shell that stays beside us, as dash does, keeps its own copies;
    # `exec` in command= spares it.)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    return sock


def _connected(path: str, identity: str) -> _socket.socket:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except FileNotFoundError:
        raise _Failed(
            f"no daemon listens at {path}: start `zrepl-trio run` with a job that has "
            f"{identity!r} under serve.client_identities"
        ) from None
    except ConnectionRefusedError:
        raise _Failed(
            f"the daemon that made {path} is gone: start it again (`zrepl-trio run`)"
        ) from None
    except PermissionError:
        raise _Failed(
            f"no permission to use {path}: log in as the user that the daemon runs as, not as "
            f"uid {os.geteuid()}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _Failed(f"can't connect to {path}: {error}") from None
    return sock


def _parsed(arguments: list[str]) -> tuple[str, str]:
    """(socket directory, identity)"""
    values = {"--config": "", "--sockdir": ""}
    identities: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            identities += rest
            break
        name, equals, value = argument.partition("=")
        if name in values:
            if not equals:
                if not rest:
                    raise _Failed(f"{name} needs a value")
                value = rest.pop(0)
            values[name] = value
        elif argument.startswith("-"):
            raise _Failed(f"unknown option {argument!r}; see zrepl-trio stdinserver --help")
        else:
            identities.append(argument)
    if len(identities) != 1:
        raise _Failed(
            f"exactly one client identity is needed, not {len(identities)}; "
            "quote it in authorized_keys if it has spaces"
        )
    identity = _checked(identities[0])
    return values["--sockdir"] or _sockdir_of(values["--config"]), identity


def _checked(identity: str) -> str:
    """`identity` if it can be one (wire reference 2.1), so that no path escapes."""
    shown = ascii(identity[:40]) + ("..." if len(identity) > 40 else "")
    if not identity:
        raise _Failed("the client identity is empty")
    if len(identity) > _IDENTITY_MAX:
        raise _Failed(f"client identity {shown} is longer than {_IDENTITY_MAX} bytes")
    if identity in {".", ".."} or not _IDENTITY_CHARACTERS.issuperset(identity):
        raise _Failed(
            f"client identity {shown} must be made of 0-9 A-Z a-z - _ . : and space, "
            "and not be '.' or '..'"
        )
    return identity


def _sockdir_of(config: str) -> str:
    if not config:
        for path in _CONFIG_PATHS:
            if os.path.exists(path):
                config = path
                break
        else:
            raise _Failed(
                f"there is no config at {' or '.join(_CONFIG_PATHS)}; "
                "name it by --config FILE, or the socket directory by --sockdir DIR"
            )
    try:
        fd = os.open(config, os.O_RDONLY)
        with open(fd, "rb") as file:
            data = file.read(_CONFIG_MAX)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no path"
        raise _Failed(f"can't read the config {config}: {reason}") from None
    # The key might also be spelt with escapes, or the file be UTF-16.
    if any(mark in data for mark in (b"sockdir", b"\\x", b"\\u", b"\\U", b"\\\n", b"\0")):
        return _sockdir_in(data, config)
    return DEFAULT_SOCKDIR


def _sockdir_in(data: bytes, config: str) -> str:
    from zrepl_trio.config.nodes import MapNode, read_nodes
    from zrepl_trio.errors import ConfigErrors

    try:
        root, problems = read_nodes(data, config)
    except ConfigErrors as error:
        root, problems = None, list(error.problems)
    if problems:
        raise _Failed(f"the config can't be used: {problems[0]}")
    node = root
    for key in ("global", "serve", "stdinserver"):
        node = node.get(key) if isinstance(node, MapNode) else None
    sockdir = node.text("sockdir") if isinstance(node, MapNode) else None
    return sockdir or DEFAULT_SOCKDIR


def _write(fd: int, data: bytes) -> None:
    try:
        os.write(fd, data)
    except OSError:
        return  # nobody there to read it
