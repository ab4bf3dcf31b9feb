from __future__ import annotations

from zrepl_trio.rpc.heartbeat import HeartbeatTimer, WriteLimit


def test_a_heartbeat_is_due_after_five_seconds_without_a_frame() -> None:
    timer = HeartbeatTimer(100)
    assert timer.next_deadline(100) == 105
    assert not timer.on_time(104.9)
    assert timer.on_time(105)
    timer.frame_sent(104)
    assert not timer.on_time(105)
    assert timer.next_deadline(105) == 109


def test_the_next_deadline_is_never_in_the_past() -> None:
    assert HeartbeatTimer(100).next_deadline(200) == 200


def test_progress_and_the_peers_heartbeats_put_the_end_of_a_write_off() -> None:
    limit = WriteLimit(100)
    assert limit.deadline == 110
    limit.progress(103)
    assert limit.deadline == 113
    limit.peer_heartbeat(108)
    assert limit.deadline == 118
