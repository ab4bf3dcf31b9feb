"""The ssh command line, exactly as zrepl's (wire reference 1.5)."""

from __future__ import annotations

from dataclasses import dataclass

from zrepl_trio.errors import Refused

__all__ = ["SshTarget", "ssh_argv"]

_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """Where ssh is to connect. Refused when a part could be read as something else: an option
    of ssh, another user, or two arguments."""

    host: str
    user: str
    port: int
    identity_file: str
    options: tuple[str, ...] = ()
    ssh_command: str = "ssh"

    def __post_init__(self) -> None:
        for key in ("host", "user", "ssh_command", "identity_file"):
            value: str = getattr(self, key)
            if not value:
                raise Refused(f"ssh {key} is empty")
            if value.startswith("-"):
                raise Refused(f"ssh {key} {value!r} starts with '-', so ssh could read an option")
        if "@" in self.host or "/" in self.host:
            raise Refused(f"ssh host {self.host!r} has '@' or '/'; give the bare name or address")
        for value in (self.host, self.user):
            if any(character.isspace() for character in value):
                raise Refused(f"{value!r} has white space, which no ssh host or user has")
        for value in (self.host, self.user, self.identity_file, self.ssh_command, *self.options):
            if not value.isprintable():
                raise Refused(f"{value!r}, meant for ssh, has a control character")
        if not 1 <= self.port <= _MAX_PORT:
            raise Refused(f"ssh port {self.port} is not within 1 to {_MAX_PORT}")

    @property
    def destination(self) -> str:
        """As ssh's last argument."""
        return f"{self.user}@{self.host}"


def ssh_argv(target: SshTarget) -> list[str]:
    """The arguments, in zrepl's order; the forced command on the server makes up the rest."""
    argv = [target.ssh_command, "-p", str(target.port), "-T", "-i", target.identity_file]
    argv += ["-o", "BatchMode=yes"]
    for option in target.options:
        argv += ["-o", option]
    return [*argv, target.destination]
