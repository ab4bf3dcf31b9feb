"""A TCP relay on loopback as a line under test (see `line`).

Run as a script: counting_tcp.py DIR from|to LISTEN-PORT TARGET-PORT. It counts what comes from the
target, or what goes to it. While there is a directory `recorded`, it writes down both instead, in the files
NUMBER.client and NUMBER.server of each connection.
"""

from __future__ import annotations

import itertools
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.interop.line import carry

_numbers = itertools.count(1)


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _plain(
    source: socket.socket, target: socket.socket, copy: Callable[[bytes], object] = len
) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            copy(chunk)
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def _counted(directory: Path, source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        carry(directory, source.fileno(), target.fileno(), partial(_cut, source, target))
        target.shutdown(socket.SHUT_WR)


def _record(path: Path, client: socket.socket, server: socket.socket) -> None:
    with (
        path.with_suffix(".client").open("wb", buffering=0) as said,
        path.with_suffix(".server").open("wb", buffering=0) as answered,
    ):
        back = threading.Thread(target=_plain, args=(server, client, answered.write))
        back.start()
        _plain(client, server, said.write)
        back.join()


def _serve(directory: Path, counted: str, client: socket.socket, port: int) -> None:
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        if (directory / "recorded").is_dir():
            _record(directory / "recorded" / str(next(_numbers)), client, server)
            return
        bulk, other = (server, client), (client, server)
        if counted == "to":
            bulk, other = other, bulk
        back = threading.Thread(target=_plain, args=other)
        back.start()
        _counted(directory, *bulk)
        back.join()


def main(directory: Path, counted: str, listen: int, target: int) -> None:
    with socket.create_server(("127.0.0.1", listen)) as server:
        while True:
            client, _ = server.accept()
            threading.Thread(
                target=_serve, args=(directory, counted, client, target), daemon=True
            ).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
