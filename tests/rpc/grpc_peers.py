"""Our gRPC machines' peers: h2 by itself, and zrepl's own bytes."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from zrepl_trio.rpc.grpc import Failure
from zrepl_trio.rpc.grpc_client import CallDone, GrpcClient
from zrepl_trio.rpc.grpc_server import GrpcServer

PREFACE = bytes.fromhex("505249202a20485454502f322e300d0a0d0a534d0d0a0d0a")
EMPTY_SETTINGS = bytes.fromhex("000000040000000000")
GO_SERVER_START = bytes.fromhex("000006040000000000000500004000")
SETTINGS_ACK = bytes.fromhex("000000040100000000")
KEEPALIVE_PING = bytes.fromhex("0000080600000000000000000000000000")
PROBE = bytes.fromhex("00000806000000000002041010090e0707")
PROBE_ACK = bytes.fromhex("00000806010000000002041010090e0707")
GOAWAY = bytes.fromhex(
    "0000210700000000000000000000000000636c69656e74207472616e73706f72742073687574646f776e"
)
PING_HI = bytes.fromhex("0a026869")
PING = "/Replication/Ping"


def exchange(client: GrpcClient, server: GrpcServer) -> tuple[list[CallDone], list[object]]:
    """Let them talk until they fall silent; what each told."""
    done: list[CallDone] = []
    called: list[object] = []
    while True:
        there, back = client.data_to_send(), server.data_to_send()
        if not there and not back:
            return done, called
        called += server.receive_data(there, 0) if there else []
        done += client.receive_data(back, 0) if back else []


def flush(machine: GrpcClient | GrpcServer) -> bytes:
    """All that it has to say now."""
    data = b""
    while part := machine.data_to_send():
        data += part
    return data


def raw(*, client: bool) -> h2.connection.H2Connection:
    """h2 by itself, as a peer that may do anything."""
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(
            client_side=client,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    connection.initiate_connection()
    return connection


def raw_server(client: GrpcClient) -> h2.connection.H2Connection:
    """A raw server that has got all that the client says."""
    peer = raw(client=False)
    peer.receive_data(flush(client))
    return peer


def answered(peer: h2.connection.H2Connection, client: GrpcClient) -> bytes | Failure:
    (done,) = client.receive_data(peer.data_to_send(), 0)
    return done.result


def goaway(last_stream: int, code: int = 0, debug: bytes = b"") -> bytes:
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + debug
    return len(payload).to_bytes(3, "big") + b"\x07\0\0\0\0\0" + payload


def raw_client(server: GrpcServer) -> h2.connection.H2Connection:
    peer = raw(client=True)
    peer.receive_data(flush(server))
    assert server.receive_data(peer.data_to_send(), 0) == []
    return peer


def raw_frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream_id.to_bytes(4, "big") + payload
