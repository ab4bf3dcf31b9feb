"""From the `connect` and `serve` sections of a config to connecters and listeners."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, assert_never

from zrepl_trio.config.model import Config
from zrepl_trio.config.transport import (
    Connect,
    LocalConnect,
    LocalServe,
    Serve,
    SshStdinserverConnect,
    StdinserverServe,
    TcpConnect,
    TcpServe,
    TlsConnect,
    TlsServe,
)
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.transport.base import Connecter, Listener
from zrepl_trio.transport.clientmap import ClientMap
from zrepl_trio.transport.local import LocalConnecter, LocalListener, LocalSwitch, UnreachedListener
from zrepl_trio.transport.ssh import SshConnecter
from zrepl_trio.transport.sshargs import SshTarget
from zrepl_trio.transport.stdinserver import StdinserverListener
from zrepl_trio.transport.tcp import TcpConnecter, TcpListener
from zrepl_trio.transport.tls import Certificates, TlsConnecter, TlsListener
from zrepl_trio.zfs.names import check_identity

__all__ = ["LinkFactory", "Links", "OpenPeer"]


class OpenPeer(Protocol):
    """Gives the endpoint that a connecter leads to; see `rpc.client.open_remote`."""

    def __call__(
        self,
        connecter: Connecter,
        *,
        connect_limit_s: float,
        work_limit_s: float,
        shutdowns: ShutdownTotals | None,
    ) -> AbstractAsyncContextManager[Endpoint]: ...


class LinkFactory(Protocol):
    """What leads the jobs of one config to their peers: over the network, or within a simulation."""

    def connecter(self, section: Connect) -> Connecter:
        """How to reach the peer of an active job; dials nothing."""

    @property
    def open_peer(self) -> OpenPeer:
        """What makes an endpoint of one of these connecters."""

    def listener(self, section: Serve, endpoint_of: Callable[[str], Endpoint]) -> Listener:
        """Where the clients of a passive job come in; does not listen yet. `endpoint_of` gives what
        a client of that identity is served with."""


class Links:
    """The links of one config's jobs, asked for in its order; those of type local meet here. Of
    several that serve one local listener the first gets all: chance, as in zrepl, would send
    each filesystem to either's `root_fs`."""

    def __init__(self, config: Config) -> None:
        self._sockdir = str(config.global_.serve.stdinserver.sockdir)
        self._switch = LocalSwitch()
        self._served: set[str] = set()

    def connecter(self, section: Connect) -> Connecter:
        """How to reach the peer of an active job; dials nothing."""
        match section:
            case SshStdinserverConnect():
                target = SshTarget(
                    host=section.host,
                    user=section.user,
                    port=section.port,
                    identity_file=str(section.identity_file),
                    options=section.options,
                    ssh_command=section.ssh_command or "ssh",
                )
                return SshConnecter(target, dial_timeout_s=section.dial_timeout)
            case TcpConnect():
                return TcpConnecter(section.address, dial_timeout_s=section.dial_timeout)
            case TlsConnect():
                return TlsConnecter(
                    section.address,
                    Certificates(ca=section.ca, cert=section.cert, key=section.key),
                    server_cn=section.server_cn,
                    dial_timeout_s=section.dial_timeout,
                )
            case LocalConnect():
                return LocalConnecter(
                    self._switch,
                    section.listener_name,
                    check_identity(section.client_identity),
                    dial_timeout_s=section.dial_timeout,
                )
            case _:
                assert_never(section)

    open_peer: OpenPeer = staticmethod(open_remote)
    """By remote calls over a connection."""

    def listener(self, section: Serve, endpoint_of: Callable[[str], Endpoint]) -> Listener:
        """Where the clients of a passive job come in; does not listen yet. They are served over their
        connections alone."""
        del endpoint_of
        match section:
            case StdinserverServe():
                return StdinserverListener(
                    self._sockdir, [check_identity(each) for each in section.client_identities]
                )
            case TcpServe():
                return TcpListener(
                    section.listen,
                    ClientMap.of(section.clients),
                    freebind=section.listen_freebind,
                )
            case TlsServe():
                return TlsListener(
                    section.listen,
                    Certificates(ca=section.ca, cert=section.cert, key=section.key),
                    [check_identity(each) for each in section.client_cns],
                    handshake_timeout_s=section.handshake_timeout,
                    freebind=section.listen_freebind,
                )
            case LocalServe(listener_name=name) if name in self._served:
                return UnreachedListener()
            case LocalServe():
                self._served.add(section.listener_name)
                return LocalListener(self._switch, section.listener_name)
            case _:
                assert_never(section)
