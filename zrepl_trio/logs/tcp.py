"""A log server over TCP, in clear text or with certificates on both sides."""

from __future__ import annotations

import socket
import ssl

import trio

from zrepl_trio.config.model import OutletTls, TcpOutlet
from zrepl_trio.dialling import open_tcp

__all__ = ["connect_tcp"]


async def connect_tcp(outlet: TcpOutlet) -> trio.abc.Stream:
    """A connection to the log server, its certificate verified for the host of `address`.

    OSError or trio.BrokenResourceError when there is none, ssl.SSLError (an OSError) for our
    files, which are read each time: certificates are renewed while the daemon runs.
    """
    context = None if outlet.tls is None else _tls_context(outlet.tls)
    host = outlet.address.host or "localhost"
    stream = await open_tcp(host, _port(outlet.address.port), outlet.net)
    try:
        _notice_a_dead_peer(stream, outlet.retry_interval)
        if context is None:
            return stream
        secured = trio.SSLStream(stream, context, server_hostname=host)
        await secured.do_handshake()
        return secured
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


def _port(port: str) -> int:
    return int(port) if port.isdecimal() else socket.getservbyname(port, "tcp")


def _tls_context(tls: OutletTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        # A passphrase is asked for on the terminal unless one is given.
        context.load_cert_chain(tls.cert, tls.key, password=b"")
    except (OSError, ValueError) as error:
        # `configcheck` tells exactly; these errors name no file
        raise OSError(f"cannot use {tls.ca}, {tls.cert} and {tls.key}: {error}") from None
    return context


def _notice_a_dead_peer(stream: trio.SocketStream, within_s: float) -> None:
    """Else lines go into the kernel's buffer for a quarter of an hour, and are lost uncounted."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(within_s * 1000)))
