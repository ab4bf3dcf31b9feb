"""The connecting side of ssh+stdinserver: one ssh child for each connection.

ssh gets zrepl's arguments and an empty environment; the server's authorized_keys decides what
runs there. Its stdin and stdout are pipes, so that bulk data can be spliced.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial

import structlog
import trio

from zrepl_trio.bulk import set_pipe_size
from zrepl_trio.children import StderrTail
from zrepl_trio.errors import ConnectFailed, HandshakeFailed
from zrepl_trio.transport.banner import (
    BEGIN,
    HELO,
    MESSAGE_BYTES,
    PROXY_ERROR,
    Greeting,
    greeting_of,
    printable,
)
from zrepl_trio.transport.base import Connecter, Connection
from zrepl_trio.transport.fdconn import FdConnection
from zrepl_trio.transport.sshargs import SshTarget, ssh_argv
from zrepl_trio.transport.sshfaults import advice_for, ended_text, shown_stderr

__all__ = ["SshConnecter"]

log = structlog.get_logger()

_LINGER_S = 0.5
"""How long ssh may take to end by itself once its pipes are closed; what it holds still arrives."""

_TERM_S = 1.0
"""From SIGTERM to SIGKILL (wire reference 9)."""

_LAST_WORDS_S = 1.0
"""How long to wait for an ssh that has closed its output to end and say why."""

_NOISE_S = 0.1
_NOISE_BYTES = 200


class SshConnecter(Connecter):
    """Dials by `target`. `dial_timeout_s` covers all from ssh's start to the end of the greeting;
    0 sets no limit, as it does for the other transports (zrepl's ssh would fail at once)."""

    def __init__(self, target: SshTarget, *, dial_timeout_s: float) -> None:
        self._target = target
        self._dial_timeout_s = dial_timeout_s

    @property
    def peer(self) -> str:
        return f"{self._target.destination}:{self._target.port}"

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        argv = self._argv()
        failure: Exception | None = None
        greeted = False
        with _Pipes() as pipes:
            stderr = StderrTail(pipes.take("stderr_read"))
            connection = FdConnection(
                pipes.take("stdout_read"),
                pipes.take("stdin_write"),
                client_identity=self._target.host,
            )
            ssh = _Ssh(self._target, self.peer, stderr)
            async with trio.open_nursery() as nursery:
                try:
                    with self._dial_limit(ssh):
                        await ssh.start(nursery, argv, pipes)
                        await ssh.greet(connection)
                    greeted = True
                    yield connection
                except Exception as error:  # noqa: BLE001 - raised again below
                    # Not from within the nursery, which would wrap it in a group.
                    failure = error
                finally:
                    connection.close()
                    try:
                        if greeted:  # else there is nothing to deliver, and all is said
                            await ssh.linger(failure)  # noqa: ASYNC102 - a cancel is to end it
                    finally:
                        stderr.close()
                        nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _argv(self) -> list[str]:
        """The command line, with ssh's path looked up: its own environment has no PATH."""
        argv = ssh_argv(self._target)
        path = os.environ.get("PATH", os.defpath)
        found = shutil.which(argv[0], path=path)
        if found is None:
            raise ConnectFailed(
                f"{self.peer}: there is no program {argv[0]!r} "
                + ("there" if "/" in argv[0] else f"in the daemon's PATH ({path})")
                + "; install OpenSSH's client, or name it by connect.ssh_command"
            )
        return [found, *argv[1:]]

    @contextmanager
    def _dial_limit(self, ssh: _Ssh) -> Iterator[None]:
        if self._dial_timeout_s == 0:
            yield
            return
        with trio.move_on_after(self._dial_timeout_s) as scope:
            yield
        if scope.cancelled_caught:
            ssh.stderr.drain()
            words = shown_stderr(bytes(ssh.stderr))
            advice = advice_for(None, bytes(ssh.stderr), self._target)
            raise ConnectFailed(
                f"{self.peer}: no connection within dial_timeout ({self._dial_timeout_s:g} s)"
                + (f"; ssh said: {words}" if words else "; ssh said nothing")
                + f" — {advice or 'is the host up, and does the daemon there answer?'}"
            )


class _Pipes:
    """ssh's three pipes; closes at its end all fds that nobody has taken over."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def __enter__(self) -> _Pipes:
        try:
            for name in ("stdin", "stdout", "stderr"):
                self._fds[f"{name}_read"], self._fds[f"{name}_write"] = os.pipe()
        except OSError as error:
            self.__exit__()
            raise ConnectFailed(f"can't make pipes for ssh: {error.strerror}") from error
        for name in ("stdin_write", "stdout_read"):
            set_pipe_size(self._fds[name])
        return self

    def take(self, name: str) -> int:
        return self._fds.pop(name)

    def borrow(self, name: str) -> int:
        return self._fds[name]

    def __exit__(self, *_: object) -> None:
        """Close what is still ours; also in mid-way, once the child has its copies."""
        while self._fds:
            os.close(self._fds.popitem()[1])


class _Ssh:
    """The child and what it says; its end is the end of the nursery that it was started in."""

    def __init__(self, target: SshTarget, peer: str, stderr: StderrTail) -> None:
        self._target = target
        self._peer = peer
        self.stderr = stderr
        self._process: trio.Process | None = None

    async def start(self, nursery: trio.Nursery, argv: list[str], pipes: _Pipes) -> None:
        nursery.start_soon(self.stderr.read)
        run = partial(
            trio.run_process,
            argv,
            stdin=pipes.borrow("stdin_read"),
            stdout=pipes.borrow("stdout_write"),
            stderr=pipes.borrow("stderr_write"),
            check=False,
            env={},
            start_new_session=True,
            deliver_cancel=_terminate,
        )
        try:
            process: trio.Process = await nursery.start(run)
        except OSError as error:
            raise ConnectFailed(f"can't start {argv[0]}: {error.strerror}") from error
        finally:
            pipes.__exit__()
        self._process = process

    async def greet(self, connection: FdConnection) -> None:
        """HELO and BEGIN; raises what went wrong in terms of the peer."""
        message = b""
        try:
            while len(message) < MESSAGE_BYTES:
                chunk = await connection.receive_some(MESSAGE_BYTES - len(message))
                if not chunk:
                    raise await self._ended(message)
                message += chunk
            match greeting_of(message):
                case Greeting.HELO:
                    await connection.send_all(BEGIN)
                case Greeting.PROXY_ERROR:
                    raise await self._refused()
                case Greeting.NOISE:
                    raise await self._noise(message, connection)
        except trio.BrokenResourceError:
            raise await self._ended(message) from None

    async def linger(self, failure: Exception | None) -> None:
        """Let ssh end by itself for a moment; tell how it did if it took the connection along."""
        assert self._process is not None
        with trio.move_on_after(_LINGER_S):
            await self._process.wait()
        status = self._process.returncode
        if failure is None or not status:
            return
        self.stderr.drain()
        text = ended_text(status, bytes(self.stderr), self._target)
        failure.add_note(text)
        log.warning("connection lost", peer=self._peer, reason=text)

    async def _ended(self, message: bytes) -> ConnectFailed | HandshakeFailed:
        status = await self._status()
        if status is None:
            text = "ssh closed its output but goes on"
        else:
            text = ended_text(status, bytes(self.stderr), self._target)
        if not HELO.startswith(message) and not PROXY_ERROR.startswith(message):
            return HandshakeFailed(
                f"{self._peer}: only {printable(message)} came in place of the greeting; {text}"
            )
        return ConnectFailed(f"{self._peer}: {text}")

    async def _refused(self) -> ConnectFailed:
        """No daemon there takes the connection: perhaps it is just being restarted."""
        await self._status()
        words = shown_stderr(bytes(self.stderr))
        return ConnectFailed(
            f"{self._peer}: the daemon there could not be reached by `stdinserver`: check that it "
            "runs, that its job lists our client identity, and that both use the same socket "
            "directory" + (f"; it said: {words}" if words else "")
        )

    async def _noise(self, message: bytes, connection: FdConnection) -> HandshakeFailed:
        with trio.move_on_after(_NOISE_S):
            while len(message) < _NOISE_BYTES and (chunk := await connection.receive_some()):
                message += chunk
        words = shown_stderr(bytes(self.stderr))
        return HandshakeFailed(
            f"{self._peer}: something else came in place of zrepl's greeting: "
            f"{printable(message[:_NOISE_BYTES])} — the forced command must be the first to write: "
            "silence motd, banners and shell start-up files for that user, and check command= "
            "in authorized_keys" + (f"; ssh said: {words}" if words else "")
        )

    async def _status(self) -> int | None:
        """How ssh ended, its last words read; None if it doesn't end soon."""
        assert self._process is not None
        with trio.move_on_after(_LAST_WORDS_S):
            await self._process.wait()
        self.stderr.drain()
        return self._process.returncode


async def _terminate(process: trio.Process) -> None:
    """End ssh and what it started (a ProxyCommand, a wrapper's children)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        await trio.sleep(_TERM_S)
