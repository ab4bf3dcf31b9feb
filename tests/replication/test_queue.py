from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.replication.notation import path
from zrepl_trio.replication.queue import Entry, StepQueue
from zrepl_trio.zfs.names import DatasetPath


def entry(
    name: str,
    *targets: int,
    present: bool = True,
    exists: bool | None = None,
    parents: list[str] | None = None,
) -> Entry:
    return Entry(
        path=path(name),
        targets=targets,
        present=present,
        exists=present if exists is None else exists,
        parents=tuple(path(name).ancestors()) if parents is None else tuple(map(path, parents)),
    )


def drain(queue: StepQueue) -> list[str]:
    order = []
    while (taken := queue.take()) is not None:
        order.append(str(taken))
        queue.done(taken)
    return order


def test_the_oldest_target_goes_first() -> None:
    assert drain(StepQueue([entry("a", 5, 6), entry("b", 1, 9)], slots=1)) == ["b", "a", "a", "b"]


def test_slots_bound_what_runs() -> None:
    queue = StepQueue([entry("a", 1), entry("b", 2), entry("c", 3)], slots=2)
    assert [queue.take(), queue.take(), queue.take()] == [path("a"), path("b"), None]
    queue.done(path("b"))
    assert queue.take() == path("c")
    assert queue.running == 2


def test_one_filesystem_has_one_step_at_a_time() -> None:
    queue = StepQueue([entry("a", 1, 2)], slots=2)
    assert [queue.take(), queue.take()] == [path("a"), None]


def test_children_wait_for_their_new_parents_first_step() -> None:
    queue = StepQueue(
        [entry("a", 5, 7, present=False), entry("a/b", 1, present=False), entry("c", 9)], slots=3
    )
    assert queue.waits_for_parent(path("a/b"))
    assert [queue.take(), queue.take(), queue.take()] == [path("a"), path("c"), None]
    assert queue.done(path("a")) == [path("a/b")]
    assert queue.take() == path("a/b")


def test_only_those_that_lie_above_on_the_receiver_are_waited_for() -> None:
    queue = StepQueue(
        [entry("a", 5, present=False), entry("a/b", 1, present=False, parents=[])], slots=1
    )
    assert drain(queue) == ["a/b", "a"]


def test_a_parent_that_is_there_or_has_nothing_to_do_holds_up_nobody() -> None:
    queue = StepQueue(
        [entry("a", 5), entry("b", present=False), entry("a/c", 1), entry("b/d", 2)], slots=1
    )
    assert drain(queue) == ["a/c", "b/d", "a"]


def test_a_failed_step_ends_its_filesystem_only() -> None:
    queue = StepQueue([entry("a", 1, 2), entry("a/b", 3), entry("c", 4)], slots=1)
    assert queue.take() == path("a")
    queue.failed(path("a"))
    assert drain(queue) == ["a/b", "c"]
    assert queue.orphans() == {}
    assert queue.unfinished == []


def test_a_failed_first_replication_takes_its_children_along() -> None:
    queue = StepQueue(
        [entry("a", 1, present=False), entry("a/b", 2), entry("a/b/c", 3), entry("d", 4)], slots=1
    )
    assert queue.take() == path("a")
    assert queue.failed(path("a")) == []
    assert queue.orphans() == {path("a/b"): [path("a")], path("a/b/c"): [path("a")]}
    assert queue.orphans() == {}
    assert drain(queue) == ["d"]


def test_a_failure_over_a_placeholder_leaves_children_their_place() -> None:
    queue = StepQueue([entry("a", 1, present=False, exists=True), entry("a/b", 2)], slots=1)
    assert queue.take() == path("a")
    assert queue.failed(path("a")) == [path("a/b")]
    assert drain(queue) == ["a/b"]


def test_a_failure_after_the_first_step_leaves_children_alone() -> None:
    queue = StepQueue([entry("a", 1, 2, present=False), entry("a/b", 9)], slots=1)
    for tell in (queue.done, queue.failed):
        assert queue.take() == path("a")
        tell(path("a"))
    assert queue.orphans() == {}
    assert drain(queue) == ["a/b"]


def test_unfinished_is_what_was_never_handed_out() -> None:
    queue = StepQueue([entry("a", 1), entry("b", 2), entry("c")], slots=1)
    assert queue.take() == path("a")
    assert queue.unfinished == [path("b")]


paths = st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), unique=True)


@given(paths, st.integers(1, 4), st.data())
def test_every_step_runs_once_or_is_accounted_for(
    names: list[str], slots: int, data: st.DataObject
) -> None:
    entries = {
        path(name): entry(
            name,
            *sorted(data.draw(st.lists(st.integers(1, 9), max_size=3))),
            present=data.draw(st.booleans()),
        )
        for name in names
    }
    queue = StepQueue(entries.values(), slots=slots)
    running: list[DatasetPath] = []
    done = dict.fromkeys(entries, 0)
    failed: set[DatasetPath] = set()
    orphaned: set[DatasetPath] = set()
    while True:
        while (taken := queue.take()) is not None:
            for ancestor in taken.ancestors():
                above = entries.get(ancestor)
                if above is not None and above.targets and not above.present:
                    assert done[ancestor]
            running.append(taken)
        assert len(running) <= slots
        assert len(set(running)) == len(running)
        if not running:
            break
        ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if data.draw(st.booleans()):
            done[ended] += 1
            queue.done(ended)
        else:
            failed.add(ended)
            queue.failed(ended)
        orphaned |= queue.orphans().keys()
    assert queue.unfinished == []
    for each, wanted in entries.items():
        if each not in failed | orphaned:
            assert done[each] == len(wanted.targets)
    assert not failed & orphaned
