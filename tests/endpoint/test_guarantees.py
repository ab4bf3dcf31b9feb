from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replication.notation import path, version, versions
from zrepl_trio.endpoint.abstractions import (
    cursor_name,
    last_received_tag,
    step_tag,
    tentative_name,
)
from zrepl_trio.endpoint.guarantees import (
    Bookmark,
    Changes,
    after_confirmation,
    after_receive,
    before_send,
    kind_for,
    snapshots_to_query,
)
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.zfs.model import FilesystemVersion, Hold, VersionKind

FS = path("tank/a")
JOB = "job"
STEP = step_tag(JOB)
RESUMABILITY, INCREMENTAL, NOTHING = GuaranteeKind
A, B, C = versions("@a,1 @b,2 @c,3")


def hold(name: str, tag: str = STEP) -> Hold:
    return Hold(FS, name, tag)


def bookmark_of(snapshot: FilesystemVersion, name: str) -> FilesystemVersion:
    return FilesystemVersion(
        kind=VersionKind.BOOKMARK,
        name=name,
        guid=snapshot.guid,
        createtxg=snapshot.createtxg,
        creation=snapshot.creation,
    )


def cursor(snapshot: FilesystemVersion, job: str = JOB) -> FilesystemVersion:
    return bookmark_of(snapshot, cursor_name(FS, snapshot.guid, job))


def tentative(snapshot: FilesystemVersion, job: str = JOB) -> FilesystemVersion:
    return bookmark_of(snapshot, tentative_name(FS, snapshot.guid, job))


def before(
    kind: GuaranteeKind,
    from_: FilesystemVersion | None,
    to: FilesystemVersion,
    present: list[FilesystemVersion],
    holds: list[Hold] | None = None,
    in_use: list[FilesystemVersion] | None = None,
) -> Changes:
    return before_send(
        dataset=FS,
        job=JOB,
        kind=kind,
        from_=from_,
        to=to,
        versions=present,
        holds=holds or [],
        in_use=in_use or [],
    )


def test_kind_is_chosen_by_step() -> None:
    protection = Protection(initial=INCREMENTAL, incremental=NOTHING)
    assert kind_for(protection, initial=True) is INCREMENTAL
    assert kind_for(protection, initial=False) is NOTHING


class TestBeforeSend:
    def test_resumability_holds_both_ends(self) -> None:
        assert before(RESUMABILITY, A, B, [A, B]) == Changes(tag=STEP, hold=("a", "b"))

    def test_resumability_of_a_full_step_holds_the_target(self) -> None:
        assert before(RESUMABILITY, None, B, [A, B]) == Changes(tag=STEP, hold=("b",))

    def test_a_bookmark_as_base_needs_no_hold(self) -> None:
        base = cursor(A)
        assert before(RESUMABILITY, base, B, [base, B]) == Changes(tag=STEP, hold=("b",))

    def test_incremental_makes_tentative_cursors(self) -> None:
        assert before(INCREMENTAL, A, B, [A, B]) == Changes(
            tag=STEP,
            bookmark=(
                Bookmark(A, tentative_name(FS, 1, JOB)),
                Bookmark(B, tentative_name(FS, 2, JOB)),
            ),
        )

    def test_incremental_from_a_bookmark_marks_the_target_only(self) -> None:
        base = cursor(A)
        assert before(INCREMENTAL, base, B, [base, B]).bookmark == (
            Bookmark(B, tentative_name(FS, 2, JOB)),
        )

    def test_a_base_that_is_another_jobs_bookmark_takes_the_place_of_none_of_ours(self) -> None:
        """That job may move its cursor before the step is through."""
        present = [cursor(A, "other"), tentative(A), B]
        assert before(INCREMENTAL, present[0], B, present).destroy == ()
        assert before(INCREMENTAL, cursor(A), B, [cursor(A), *present]).destroy == (
            tentative(A).name,
        )

    def test_nothing_makes_nothing(self) -> None:
        assert before(NOTHING, A, B, [A, B]) == Changes(tag=STEP)

    @pytest.mark.parametrize("kind", list(GuaranteeKind))
    def test_leftovers_of_the_job_go_and_nothing_else(self, kind: GuaranteeKind) -> None:
        old = tentative(A)
        present = [A, old, tentative(A, "other"), cursor(B), cursor(A, "other"), B, C]
        changes = before(
            kind, B, C, present, [hold("a"), hold("a", "x"), hold("b", "zrepl_STEP_J_o")]
        )
        assert changes.release == ("a",)
        assert changes.destroy == (old.name,)

    @pytest.mark.parametrize("kind", list(GuaranteeKind))
    def test_what_protects_later_snapshots_stays_where_anything_is_promised(
        self, kind: GuaranteeKind
    ) -> None:
        changes = before(kind, A, B, [A, cursor(A), B, C, tentative(C)], [hold("c")])
        goes = kind is GuaranteeKind.NOTHING
        assert changes.release == (("c",) if goes else ())
        assert changes.destroy == ((tentative(C).name,) if goes else ())

    @pytest.mark.parametrize("kind", list(GuaranteeKind))
    def test_a_tentative_cursor_that_is_the_base_stays(self, kind: GuaranteeKind) -> None:
        base = tentative(A)
        changes = before(kind, base, B, [base, B])
        assert changes.destroy == ()

    def test_what_is_there_is_not_made_again(self) -> None:
        assert before(RESUMABILITY, A, B, [A, B], [hold("a"), hold("b")]) == Changes(tag=STEP)
        assert before(INCREMENTAL, A, B, [A, tentative(A), B, tentative(B)]) == Changes(tag=STEP)

    def test_a_kind_drops_what_the_other_made(self) -> None:
        assert before(INCREMENTAL, A, B, [A, B], [hold("a"), hold("b")]).release == ("a", "b")
        assert before(RESUMABILITY, A, B, [A, B, tentative(B)]).destroy == (tentative(B).name,)

    @pytest.mark.parametrize("kind", list(GuaranteeKind))
    def test_what_another_send_uses_stays(self, kind: GuaranteeKind) -> None:
        used = tentative(A)
        changes = before(
            kind, B, C, [A, used, B, C, tentative(B)], [hold("a"), hold("b")], in_use=[A, B]
        )
        assert changes.release == ()
        assert changes.destroy == ()


class TestAfterConfirmation:
    def confirm(
        self,
        kind: GuaranteeKind,
        to: FilesystemVersion,
        present: list[FilesystemVersion],
        holds: list[Hold],
        in_use: list[FilesystemVersion] | None = None,
    ) -> Changes:
        return after_confirmation(
            dataset=FS,
            job=JOB,
            kind=kind,
            to=to,
            versions=present,
            holds=holds,
            in_use=in_use or [],
        )

    @pytest.mark.parametrize("kind", [RESUMABILITY, INCREMENTAL])
    def test_the_cursor_moves_and_the_rest_goes(self, kind: GuaranteeKind) -> None:
        present = [A, cursor(A), tentative(A), B, tentative(B), cursor(A, "other")]
        changes = self.confirm(kind, B, present, [hold("a"), hold("b"), hold("b", "x")])
        assert changes.bookmark == (Bookmark(B, cursor_name(FS, 2, JOB)),)
        assert changes.release == ("a", "b")
        assert set(changes.destroy) == {cursor(A).name, tentative(A).name, tentative(B).name}

    def test_twice_is_the_same_as_once(self) -> None:
        assert self.confirm(RESUMABILITY, B, [A, B, cursor(B)], []) == Changes(tag=STEP)

    def test_nothing_drops_cursors_too(self) -> None:
        changes = self.confirm(NOTHING, B, [A, cursor(A), B], [hold("a")])
        assert changes == Changes(tag=STEP, release=("a",), destroy=(cursor(A).name,))

    def test_what_another_send_uses_stays(self) -> None:
        base = cursor(A)
        changes = self.confirm(
            RESUMABILITY, B, [base, A, B, C, tentative(C)], [hold("c")], in_use=[base, C]
        )
        assert changes.release == ()
        assert changes.destroy == ()


class TestAfterReceive:
    tag = last_received_tag(JOB)

    @pytest.mark.parametrize("kind", [RESUMABILITY, INCREMENTAL])
    def test_the_hold_moves(self, kind: GuaranteeKind) -> None:
        holds = [hold("a", self.tag), hold("a", "x"), hold("b", last_received_tag("other"))]
        assert after_receive(job=JOB, kind=kind, received=B, holds=holds) == Changes(
            tag=self.tag, hold=("b",), release=("a",)
        )

    def test_nothing_releases_what_was_held(self) -> None:
        holds = [hold("a", self.tag), hold("b", self.tag)]
        assert after_receive(job=JOB, kind=NOTHING, received=B, holds=holds) == Changes(
            tag=self.tag, release=("a", "b")
        )

    def test_an_existing_hold_is_left(self) -> None:
        holds = [hold("b", self.tag)]
        assert after_receive(job=JOB, kind=RESUMABILITY, received=B, holds=holds) == Changes(
            tag=self.tag
        )


def test_only_snapshots_that_may_be_held_are_asked_for() -> None:
    listed = [version("@a,1", userrefs=2), version("@b,2"), version("#c,1")]
    assert snapshots_to_query(listed) == ["a"]


names = st.sampled_from("abcdefgh")


@given(st.data())
def test_never_drops_what_the_step_needs_or_somebody_elses(data: st.DataObject) -> None:
    snapshots = [version(f"@{name},{i + 1}") for i, name in enumerate("abcdefgh")]
    bookmarks = data.draw(
        st.lists(
            st.sampled_from(
                [f(s, j) for s in snapshots for f in (cursor, tentative) for j in (JOB, "o")]
            ),
            unique=True,
        )
    )
    holds = data.draw(
        st.lists(
            st.sampled_from([hold(s.name, t) for s in snapshots for t in (STEP, "o")]), unique=True
        )
    )
    present = [*snapshots, *bookmarks]
    to = data.draw(st.sampled_from(snapshots[1:]))
    bases = [v for v in present if v.createtxg < to.createtxg]
    from_ = data.draw(st.sampled_from([None, *bases]))
    others = data.draw(st.lists(st.sampled_from(present)))
    kind = data.draw(st.sampled_from(list(GuaranteeKind)))
    changes = before(kind, from_, to, present, holds, others)
    needed = {v.name for v in (from_, to, *others) if v is not None}
    assert not {v.name for v in others if v.is_snapshot} & set(changes.release)
    assert not needed & set(changes.destroy)
    own = {v.name for v in bookmarks if v in (tentative(s) for s in snapshots)}
    assert set(changes.destroy) <= own
    assert {hold(name) for name in changes.release} <= set(holds)
    if kind is RESUMABILITY:
        kept = {h.snapshot for h in holds if h.tag == STEP} - set(changes.release)
        assert {v.name for v in (from_, to) if v and v.is_snapshot} <= kept | set(changes.hold)
    if kind is INCREMENTAL:
        there = {v.name for v in bookmarks} - set(changes.destroy)
        made = {b.name for b in changes.bookmark}
        assert tentative(to).name in there | made


@pytest.mark.parametrize(
    ("kind", "held"),
    [(RESUMABILITY, ("a", "c", "b")), (INCREMENTAL, ("b",)), (NOTHING, ())],
)
def test_all_of_a_range_is_protected(kind: GuaranteeKind, held: tuple[str, ...]) -> None:
    changes = before_send(
        dataset=FS, job=JOB, kind=kind, from_=A, between=[B], to=C, versions=[A, B, C], holds=[]
    )
    assert changes.hold == held
    marked = [bookmark.snapshot for bookmark in changes.bookmark]
    assert marked == ([A, C] if kind is INCREMENTAL else [])


def test_what_comes_after_a_range_that_ended_early_stays_held() -> None:
    changes = after_confirmation(
        dataset=FS,
        job=JOB,
        kind=RESUMABILITY,
        to=B,
        versions=[cursor(A), A, B, C],
        holds=[hold("a"), hold("b"), hold("c")],
    )
    assert changes.bookmark == (Bookmark(B, cursor_name(FS, B.guid, JOB)),)
    assert changes.release == ("a", "b")
    assert changes.destroy == (cursor(A).name,)
