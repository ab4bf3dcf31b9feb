"""The tls transport: mutual certificates; a client's identity is its certificate's common name.

TLS 1.2 or later. The server's certificate is checked against `ca` and must name `server_cn` among its
subjectAltNames, as Go's TLS demands. The bytes must be encrypted by us, so they are copied, never
spliced.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import structlog
import trio

from zrepl_trio.config.addresses import HostPort
from zrepl_trio.errors import ConnectFailed, Refused
from zrepl_trio.transport.base import Connecter, Connection, Listener
from zrepl_trio.transport.clients import ClientRefused, Door, Handler, limited, take_clients
from zrepl_trio.transport.sockets import dial, limit, listening_at, peer_host
from zrepl_trio.zfs.names import Identity

__all__ = ["Certificates", "TlsConnecter", "TlsConnection", "TlsListener", "words"]

log = structlog.get_logger()

_FAREWELL_S = 1.0
"""How long a close may take to tell the peer; it learns of the end by the socket, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """PEM files: the authority that signed the peer's certificate, our certificate, its key."""

    ca: str
    cert: str
    key: str

    def context(self, *, serving: bool) -> ssl.SSLContext:
        """What they amount to, read now. Refused when one can't be read or they don't fit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if serving else ssl.PROTOCOL_TLS_CLIENT)
        # as Go does: the `ca` is trusted, also one that another authority has signed
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.hostname_checks_common_name = False
        if keylog := os.environ.get("ZREPL_KEYLOG_FILE"):
            context.keylog_filename = keylog
        what = self.ca
        try:
            context.load_verify_locations(self.ca)
            what = f"{self.cert} with {self.key}"
            # a passphrase would be asked for on the terminal
            context.load_cert_chain(self.cert, self.key, password=b"")
        except (OSError, ValueError) as error:
            reason = words(error) if isinstance(error, ssl.SSLError) else error
            raise Refused(f"cannot use {what} for TLS: {reason}") from error
        return context

    def state(self) -> tuple[tuple[int, int], ...]:
        """Changes when a file is replaced."""
        return tuple((os.stat(p).st_mtime_ns, os.stat(p).st_ino) for p in self._paths)

    @property
    def _paths(self) -> tuple[str, str, str]:
        return self.ca, self.cert, self.key


class TlsConnection(Connection):
    """Owns `stream`. Half-closing ends the TCP direction without a TLS farewell: the protocol on top
    says itself where a stream ends, and `ssl` has no way to say goodbye in one direction only.

    `refusal` is what an end before the first byte means: since TLS 1.3 a client's handshake is over
    before the server has looked at its certificate.
    """

    read_fd = None
    write_fd = None

    def __init__(
        self,
        stream: trio.SSLStream[trio.SocketStream],
        *,
        client_identity: str,
        refusal: str = "",
    ) -> None:
        self.client_identity = client_identity
        self._stream = stream
        self._refusal = refusal
        self._send_over = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._send_over:
            raise trio.ClosedResourceError("our sending side is closed")
        with _explained():
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        if self._send_over:
            raise trio.ClosedResourceError("our sending side is closed")
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        with _explained():
            data = bytes(await self._stream.receive_some(max_bytes))
        if not data and self._refusal:
            raise trio.BrokenResourceError(self._refusal)
        self._refusal = ""
        return data

    async def send_eof(self) -> None:
        if self._send_over:
            await trio.lowlevel.checkpoint()
            return
        self._send_over = True
        await self._stream.transport_stream.send_eof()

    def close(self) -> None:
        self._stream.transport_stream.socket.close()

    async def aclose(self) -> None:
        try:
            if not self._send_over:
                with trio.move_on_after(_FAREWELL_S), suppress(trio.BrokenResourceError):
                    await self._stream.aclose()
        finally:
            self.close()
        await trio.lowlevel.checkpoint()


class TlsConnecter(Connecter):
    """Dials `address` and expects the server's certificate to name `server_cn`. The files are read
    for each connection, so a renewed certificate needs no restart."""

    def __init__(
        self,
        address: HostPort,
        certificates: Certificates,
        *,
        server_cn: str,
        dial_timeout_s: float,
    ) -> None:
        self._address = address
        self._certificates = certificates
        self._server_cn = server_cn
        self._dial_timeout_s = dial_timeout_s

    @property
    def peer(self) -> str:
        return str(self._address)

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        context = self._certificates.context(serving=False)
        deadline = trio.current_time() + limit(self._dial_timeout_s)
        socket_stream = await dial(self._address, self._dial_timeout_s)
        stream = trio.SSLStream(
            socket_stream, context, server_hostname=self._server_cn, https_compatible=True
        )
        refusal = (
            f"{self._address} ended the connection right after the TLS handshake: it does not accept "
            f"our certificate {self._certificates.cert}; either its `ca` did not sign it or its "
            "`client_cns` lacks our common name, and its log says which"
        )
        async with TlsConnection(
            stream, client_identity=self._address.host, refusal=refusal
        ) as connection:
            try:
                with trio.fail_at(deadline):
                    await stream.do_handshake()
            except trio.TooSlowError:
                raise ConnectFailed(
                    f"{self._address} did not end the TLS handshake within {self._dial_timeout_s:g} s"
                ) from None
            except (trio.BrokenResourceError, OSError) as error:
                raise ConnectFailed(
                    f"no TLS with {self._address}: {words(error)}{self._hint(error)}"
                ) from error
            yield connection

    def _hint(self, error: BaseException) -> str:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError) and "ostname" in str(cause):
            return (
                f"; `server_cn` {self._server_cn!r} must be among the subjectAltNames of the "
                "server's certificate"
            )
        return ""


class TlsListener(Listener):
    """Listens at `listen` for clients whose certificate is signed by `ca` and has one of `client_cns`
    as common name. Replaced certificate files are used from the next client on."""

    def __init__(
        self,
        listen: HostPort,
        certificates: Certificates,
        client_cns: Collection[Identity],
        *,
        handshake_timeout_s: float,
        freebind: bool = False,
    ) -> None:
        self._listen = listen
        self._certificates = certificates
        self._cns = {str(identity): identity for identity in client_cns}
        self._handshake_timeout_s = handshake_timeout_s
        self._freebind = freebind

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        door = _Certified(self._certificates, self._cns, self._handshake_timeout_s)
        async with (
            listening_at(self._listen, freebind=self._freebind) as listeners,
            trio.open_nursery() as nursery,
        ):
            for listener in listeners:
                nursery.start_soon(take_clients, listener, door, handler)
            task_status.started()


class _Certified(Door):
    def __init__(
        self, certificates: Certificates, cns: Mapping[str, Identity], timeout_s: float
    ) -> None:
        self._certificates = certificates
        self._context = certificates.context(serving=True)
        self._state = certificates.state()
        self._cns = cns
        self._timeout_s = limit(timeout_s)

    def look(self, sock: trio.socket.SocketType) -> Mapping[str, object]:
        return {"address": peer_host(sock)}

    async def admit(self, sock: trio.socket.SocketType) -> Connection | None:
        own = trio.socket.socket(fileno=sock.detach())
        stream = trio.SSLStream(
            trio.SocketStream(own), self._current(), server_side=True, https_compatible=True
        )
        try:
            with limited("end the TLS handshake", self._timeout_s):
                try:
                    await stream.do_handshake()
                except trio.BrokenResourceError as error:
                    raise ClientRefused(f"no TLS: {words(error)}") from error
            return TlsConnection(stream, client_identity=self._identity(stream))
        except BaseException:
            own.close()
            raise

    def _current(self) -> ssl.SSLContext:
        """The context of the files as they are now; of those before, while they can't be used."""
        try:
            state = self._certificates.state()
            if state != self._state:
                self._state = state
                self._context = self._certificates.context(serving=True)
                log.info("changed certificates are in use", cert=self._certificates.cert)
        except (OSError, Refused) as error:
            log.warning("changed certificates cannot be used, the old ones stay", err=str(error))
        return self._context

    def _identity(self, stream: trio.SSLStream[trio.SocketStream]) -> Identity:
        subject = stream.getpeercert()["subject"]
        names = [value for part in subject for key, value in part if key == "commonName"]
        if len(names) != 1:
            raise ClientRefused(f"its certificate has {len(names)} common names, not one")
        identity = self._cns.get(names[0])
        if identity is None:
            raise ClientRefused(
                f"the common name {names[0]!r} of its certificate is not among the job's "
                "`client_cns`"
            )
        return identity


def words(error: BaseException) -> str:
    """What ssl says, without its codes."""
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return str(cause.verify_message)
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return cause.reason.replace("_", " ").lower()
    return str(cause or "the peer closed the connection")


@contextmanager
def _explained() -> Iterator[None]:
    """A broken TLS stream says what ssl says: TLS 1.3 tells a client here that it is not wanted."""
    try:
        yield
    except trio.BrokenResourceError as error:
        if isinstance(error.__cause__, ssl.SSLError):
            raise trio.BrokenResourceError(f"TLS: {words(error)}") from error
        raise
