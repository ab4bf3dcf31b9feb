from __future__ import annotations

from zrepl_trio.logs.queue import LineQueue

LINE = b"x" * 36  # 100 with its overhead


def test_when_full_the_oldest_go_and_are_counted() -> None:
    woken: list[None] = []
    queue = LineQueue(lambda: woken.append(None), limit_bytes=300)
    assert [queue.put(b"%d" % n + LINE[1:]) for n in range(5)] == [True, True, True, False, False]
    lost, lines = queue.take(1000)
    assert lost == 2
    assert [line[:1] for line in lines] == [b"2", b"3", b"4"]
    assert queue.take(1000) == (0, [])
    assert len(woken) == 5


def test_the_newest_is_kept_whatever_its_size() -> None:
    queue = LineQueue(lambda: None, limit_bytes=300)
    queue.put(LINE)
    assert not queue.put(LINE * 20)
    assert queue.take(0) == (1, [LINE * 20])


def test_it_gives_what_fits_but_always_one() -> None:
    queue = LineQueue(lambda: None)
    for _ in range(3):
        queue.put(LINE)
    assert queue.take(2 * len(LINE)) == (0, [LINE, LINE])
    assert queue.take(0) == (0, [LINE])


def test_closed_it_gives_the_rest_and_takes_no_more() -> None:
    queue = LineQueue(lambda: None)
    queue.put(b"a")
    queue.close()
    queue.put(b"b")
    assert queue.take(100) == (0, [b"a"])
    assert queue.closed
