"""The whole config: jobs and the `global` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from zrepl_trio.config.base import FromDefaults, Section, bad
from zrepl_trio.config.fields import (
    Flag,
    ListenAddress,
    Path,
    RequiredText,
    null_is_empty_list,
)
from zrepl_trio.config.go_durations import GoTimeout, ZfsTimeout
from zrepl_trio.config.jobs import Job, PullJob, PushJob, SinkJob, SnapJob, SourceJob

__all__ = [
    "DEFAULT_CONTROL_SOCKET",
    "DEFAULT_SOCKDIR",
    "Config",
    "Control",
    "Global",
    "Job",
    "Outlet",
    "OutletTls",
    "PrometheusMonitoring",
    "PullJob",
    "PushJob",
    "SinkJob",
    "SnapJob",
    "SourceJob",
    "StdinserverSockets",
    "StdoutOutlet",
    "SyslogOutlet",
    "TcpOutlet",
    "ZfsTimeouts",
]

DEFAULT_CONTROL_SOCKET = "/var/run/zrepl/control"
DEFAULT_SOCKDIR = "/var/run/zrepl/stdinserver"

Facility = Literal[
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
]


class _Outlet(Section):
    level: Literal["debug", "info", "warn", "error"]
    """Least severe level that is logged."""
    format: Literal["human", "logfmt", "json"]
    """Form of each line."""


class StdoutOutlet(_Outlet):
    """Log to standard output."""

    type: Literal["stdout"]
    time: Flag = True
    """Show the time; only where the output is no terminal."""
    color: Flag = True
    """Colour by level; only where the output is a terminal."""


class SyslogOutlet(_Outlet):
    """Log to the system's syslog."""

    type: Literal["syslog"]
    facility: Facility = "local0"
    """syslog facility."""
    retry_interval: GoTimeout = 10.0
    """Seconds between attempts to reach syslog."""


class OutletTls(Section):
    """Certificates for a tcp outlet."""

    ca: Path
    """PEM file of the authority that signed the log server's certificate."""
    cert: Path
    """PEM file of our certificate."""
    key: Path
    """PEM file of our private key."""


_NETS = ("tcp", "tcp4", "tcp6", "udp", "udp4", "udp6")


class TcpOutlet(_Outlet):
    """Log to a server over TCP, or over UDP."""

    type: Literal["tcp"]
    address: ListenAddress
    """Host and port of the log server."""
    net: RequiredText = "tcp"
    """tcp, tcp4, tcp6, udp, udp4 or udp6."""
    retry_interval: GoTimeout = 10.0
    """Seconds between attempts to connect; also the limit of each."""
    tls: OutletTls | None = None
    """Certificates; without, the log travels in clear text."""

    @field_validator("net")
    @classmethod
    def _known_net(cls, net: str) -> str:
        if net not in _NETS:
            raise bad(
                f"{net!r} is no network over which an `address` of host and port is reached",
                ", ".join(_NETS),
            )
        return net

    @model_validator(mode="after")
    def _tls_over_tcp(self) -> TcpOutlet:
        if self.tls is not None and not self.net.startswith("tcp"):
            raise bad(f"`tls` needs a connection, and net: {self.net} has none", "net: tcp")
        return self


Outlet = Annotated[StdoutOutlet | SyslogOutlet | TcpOutlet, Field(discriminator="type")]

_DEFAULT_LOGGING: tuple[Outlet, ...] = (StdoutOutlet(type="stdout", level="warn", format="human"),)


class PrometheusMonitoring(Section):
    """Serve metrics over HTTP."""

    type: Literal["prometheus"]
    listen: ListenAddress
    """Address to listen on."""
    listen_freebind: Flag = False
    """Listen on an address that the host does not have yet."""


class Control(Section):
    """The daemon's control socket."""

    sockpath: Path = DEFAULT_CONTROL_SOCKET
    """UNIX socket of `status` and `signal`."""


class StdinserverSockets(Section):
    """Sockets of `stdinserver`."""

    sockdir: Path = DEFAULT_SOCKDIR
    """Private directory that holds one socket for each client identity."""


class GlobalServe(Section):
    """Settings of serving transports."""

    stdinserver: Annotated[StdinserverSockets, FromDefaults] = StdinserverSockets()
    """Sockets of `stdinserver`."""


class ZfsTimeouts(Section):
    """How long a zfs command may do nothing before it is killed. A key of zrepl-trio."""

    command_timeout: ZfsTimeout = 600.0
    """Until a command prints something, or ends."""
    stream_timeout: ZfsTimeout = 1800.0
    """Until a zfs send gives something, a zfs recv takes something, or either ends."""


class Global(Section):
    """Settings of the daemon as a whole."""

    logging: Annotated[tuple[Outlet, ...], FromDefaults] = _DEFAULT_LOGGING
    """Where the log goes; at most one stdout and one syslog outlet."""
    monitoring: Annotated[
        tuple[PrometheusMonitoring, ...], BeforeValidator(null_is_empty_list)
    ] = ()
    """Where metrics are served."""
    control: Annotated[Control, FromDefaults] = Control()
    """The daemon's control socket."""
    serve: Annotated[GlobalServe, FromDefaults] = GlobalServe()
    """Settings of serving transports."""
    zfs: Annotated[ZfsTimeouts, FromDefaults] = ZfsTimeouts()
    """Limits of zfs commands. A key of zrepl-trio."""

    @field_validator("logging")
    @classmethod
    def _one_of_each(cls, outlets: tuple[Outlet, ...]) -> tuple[Outlet, ...]:
        for kind in ("stdout", "syslog"):
            if sum(outlet.type == kind for outlet in outlets) > 1:
                raise bad(f"there can be only one {kind} outlet")
        return outlets

    @field_validator("monitoring")
    @classmethod
    def _one_prometheus(
        cls, entries: tuple[PrometheusMonitoring, ...]
    ) -> tuple[PrometheusMonitoring, ...]:
        if len(entries) > 1:
            raise bad("there can be only one prometheus entry")
        return entries


class Config(Section):
    """A config file: zrepl's, plus the few keys marked as keys of zrepl-trio."""

    global_: Annotated[Global, FromDefaults, Field(alias="global")] = Global()
    """Settings of the daemon as a whole."""
    jobs: Annotated[tuple[Job, ...], BeforeValidator(null_is_empty_list)] = ()
    """What the daemon does."""
    include: Annotated[tuple[RequiredText, ...], BeforeValidator(null_is_empty_list)] = ()
    """More files (or directories of `*.yml`) whose jobs are added; paths are relative to this file."""

    def job(self, name: str) -> Job | None:
        """The job of that name."""
        return next((job for job in self.jobs if job.name == name), None)
