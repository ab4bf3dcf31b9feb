from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replication.notation import path, version, versions
from tests.replication.test_diff import listing
from zrepl_trio.endpoint.model import Filesystem, Way
from zrepl_trio.replication.conflicts import ConflictKind
from zrepl_trio.replication.diff import Diverged, NoCommonAncestor, NoSenderSnapshots, Occupied
from zrepl_trio.replication.plan import (
    FilesystemPlan,
    Plan,
    Refusal,
    Side,
    Step,
    UnusableToken,
    limited_to,
    paired,
    plan_filesystem,
)
from zrepl_trio.replication.policy import DivergencePolicy, InitialReplication
from zrepl_trio.zfs.model import FilesystemVersion, ResumeToken

FS = path("tank/a")
ALL, MOST_RECENT, FAIL = (
    InitialReplication.ALL,
    InitialReplication.MOST_RECENT,
    InitialReplication.FAIL,
)


def side(listed: str, *, placeholder: bool = False, token: str | None = None) -> Side:
    return Side(
        filesystem=Filesystem(path=FS, is_placeholder=placeholder, resume_token=token),
        versions=versions(listed),
    )


def plan(
    sender: Side | str,
    receiver: Side | None,
    token: ResumeToken | UnusableToken | None = None,
    initial: InitialReplication = MOST_RECENT,
    divergence: DivergencePolicy = DivergencePolicy.FAIL,
) -> Plan:
    return plan_filesystem(
        sender=side(sender) if isinstance(sender, str) else sender,
        receiver=receiver,
        token=token,
        initial=initial,
        divergence=divergence,
    )


def steps(found: Plan) -> list[str]:
    assert isinstance(found, FilesystemPlan), found
    return [_words(step) for step in found.steps]


def _words(step: Step) -> str:
    words = f"{step.from_.relative if step.from_ else ''}->{step.to.relative}"
    return f"{step.resume_token}:{words}" if step.resume_token else words


def refusal(found: Plan) -> Refusal:
    assert isinstance(found, Refusal), found
    assert found.text.startswith("tank/a: ")
    assert "\n  next: " in found.text
    return found


class TestPairing:
    def test_by_path_parents_first(self) -> None:
        def fs(text: str, guid: int | None = None) -> Filesystem:
            return Filesystem(path=path(text), dataset_guid=guid)

        found = paired([fs("a/b"), fs("a"), fs("a-b")], [fs("a", 1), fs("x", 2)])
        assert found == [(fs("a"), fs("a", 1)), (fs("a/b"), None), (fs("a-b"), None)]


class TestInitial:
    @pytest.mark.parametrize("receiver", [None, side("", placeholder=True)])
    def test_most_recent_sends_the_newest_in_full(self, receiver: Side | None) -> None:
        found = plan("@a,1 @b,2 #c,3", receiver)
        assert steps(found) == ["->@b"]
        assert isinstance(found, FilesystemPlan)
        assert not found.present
        assert found.exists is (receiver is not None)

    def test_all_sends_the_oldest_and_every_increment(self) -> None:
        assert steps(plan("@a,1 #b,2 @b,2 @c,3", None, initial=ALL)) == ["->@a", "@a->@b", "@b->@c"]

    def test_fail_refuses(self) -> None:
        assert "forbids a first replication" in refusal(plan("@a,1", None, initial=FAIL)).text

    @pytest.mark.parametrize("initial", [ALL, MOST_RECENT])
    def test_bookmarks_alone_are_no_start(self, initial: InitialReplication) -> None:
        found = refusal(plan("#a,1 #b,2", None, initial=initial))
        assert "bookmarks only" in found.text
        assert isinstance(found.conflict, NoCommonAncestor)

    def test_a_placeholders_snapshots_are_no_data(self) -> None:
        assert steps(plan("@a,1 @b,2", side("@x,7", placeholder=True))) == ["->@b"]

    def test_an_existing_filesystem_is_never_overwritten(self) -> None:
        found = refusal(plan("@a,1", side("")))
        assert "without any snapshot, which is not a placeholder" in found.text
        assert "zfs set zrepl:placeholder=on" in found.text
        assert found.kind is ConflictKind.OCCUPIED
        assert isinstance(found.conflict, Occupied)

    @pytest.mark.parametrize("initial", [ALL, MOST_RECENT])
    def test_an_existing_filesystem_is_kept_as_a_copy_if_so_wished(
        self, initial: InitialReplication
    ) -> None:
        found = plan("@a,1 @b,2", side(""), divergence=DivergencePolicy.KEEP_COPY, initial=initial)
        assert steps(found) == (["->@a", "@a->@b"] if initial is ALL else ["->@b"])
        assert isinstance(found, FilesystemPlan)
        assert found.resolve is not None
        assert (found.resolve.way, found.resolve.expected) == (Way.KEEP_COPY, ())

    def test_an_existing_filesystem_has_nothing_to_roll_back_to(self) -> None:
        found = refusal(plan("@a,1", side(""), divergence=DivergencePolicy.ROLLBACK))
        assert found.kind is ConflictKind.OCCUPIED
        assert "`rollback` has no snapshot to go back to" in found.text

    def test_a_forbidden_first_replication_is_none_of_a_copys_either(self) -> None:
        found = refusal(plan("@a,1", side(""), divergence=DivergencePolicy.KEEP_COPY, initial=FAIL))
        assert "forbids a first replication" in found.text

    def test_no_versions(self) -> None:
        found = refusal(plan("", None))
        assert isinstance(found.conflict, NoSenderSnapshots)


class TestIncremental:
    def test_one_step_a_snapshot(self) -> None:
        found = plan("@a,1 @b,2 @c,3", side("@a,1"))
        assert steps(found) == ["@a->@b", "@b->@c"]
        assert isinstance(found, FilesystemPlan)
        assert found.present
        assert found.exists

    def test_up_to_date(self) -> None:
        assert steps(plan("@a,1", side("@a,1"))) == []

    def test_from_a_bookmark(self) -> None:
        assert steps(plan("#a,1 @b,2", side("@a,1"))) == ["#a->@b"]

    def test_diverged(self) -> None:
        assert isinstance(refusal(plan("@a,1 @b,2", side("@a,1 @x,9"))).conflict, Diverged)

    @pytest.mark.parametrize("initial", list(InitialReplication))
    def test_no_common_ancestor_is_never_resolved(self, initial: InitialReplication) -> None:
        found = refusal(plan("@a,1", side("@x,9"), initial=initial))
        assert isinstance(found.conflict, NoCommonAncestor)


class TestPlaceholderOnTheSender:
    @pytest.mark.parametrize("receiver", [None, side("", placeholder=True)])
    def test_has_no_steps(self, receiver: Side | None) -> None:
        assert steps(plan(side("@a,1", placeholder=True), receiver)) == []

    def test_does_not_hide_real_data(self) -> None:
        assert (
            "real data on the receiver"
            in refusal(plan(side("", placeholder=True), side("@a,1"))).text
        )


def token(to: int, from_: int | None = None, name: str = "tank/a@b") -> ResumeToken:
    return ResumeToken(to_name=name, to_guid=to, from_guid=from_)


class TestResume:
    def test_the_token_comes_first_then_every_later_snapshot(self) -> None:
        found = plan("@a,1 @b,2 @c,3 #d,4 @d,4", side("@a,1", token="T"), token(2, 1))
        assert steps(found) == ["T:@a->@b", "@b->@c", "@c->@d"]

    def test_a_full_send_is_resumed_too(self) -> None:
        found = plan("@a,1 @b,2", side("", token="T"), token(1, name="tank/a@a"))
        assert steps(found) == ["T:->@a", "@a->@b"]
        assert isinstance(found, FilesystemPlan)
        # nothing can be put below half a filesystem
        assert not found.exists
        assert not found.present

    def test_over_a_placeholder(self) -> None:
        found = plan("@a,1", side("", placeholder=True, token="T"), token(1))
        assert steps(found) == ["T:->@a"]

    def test_the_base_may_be_a_bookmark_but_a_snapshot_is_preferred(self) -> None:
        assert steps(plan("#a,1 @b,2", side("@a,1", token="T"), token(2, 1))) == ["T:#a->@b"]
        assert steps(plan("#a,1 @a,1 @b,2", side("@a,1", token="T"), token(2, 1))) == ["T:@a->@b"]

    @pytest.mark.parametrize(
        ("sender", "receiver", "decoded", "fresh", "why"),
        [
            ("@a,1 @c,3", "@a,1", token(2, 1), ["@a->@c"], "no longer has the snapshot @b"),
            ("@a,1 #b,2 @c,3", "@a,1", token(2, 1), ["@a->@c"], "no longer has the snapshot @b"),
            ("@c,3", "", token(2), ["->@c"], "no longer has the snapshot @b"),
            ("@b,2 @a,5,1", "@a,5", token(2, 5, "tank/old@b"), ["@a->@b"], "came from 'tank/old'"),
            ("@a,1 @b,2", "@a,1", token(1, 1), ["@a->@b"], "no longer has what"),
            ("@a,1 @b,2 @c,3", "@a,1 @b,2", token(2, 1), ["@b->@c"], "snapshots changed since"),
            ("@a,1 @b,2", "@a,1", token(2), ["@a->@b"], "snapshots changed since"),
            ("@a,1 @b,2", "@a,1", UnusableToken("is corrupt"), ["@a->@b"], "is corrupt"),
        ],
    )
    def test_what_cannot_be_resumed_is_given_up_for_a_fresh_step(
        self,
        sender: str,
        receiver: str,
        decoded: ResumeToken | UnusableToken,
        fresh: list[str],
        why: str,
    ) -> None:
        found = plan(sender, side(receiver, token="T"), decoded)
        assert steps(found) == fresh
        assert isinstance(found, FilesystemPlan)
        assert found.note.startswith("the partly received state is given up and dropped: ")
        assert why in found.note

    def test_a_conflict_gives_nothing_up(self) -> None:
        found = refusal(plan("@b,2 @c,3", side("@a,1", token="T"), token(9, 1)))
        assert isinstance(found.conflict, NoCommonAncestor)

    def test_a_token_that_is_to_be_ignored_is(self) -> None:
        assert steps(plan("@a,1 @b,2", side("@a,1", token="T"), None)) == ["@a->@b"]
        assert steps(plan("@a,1 @b,2", side("", token="T"), None)) == ["->@b"]


class TestLimit:
    def test_is_inclusive(self) -> None:
        found = plan("@a,1 @b,2 @c,3 @d,4", side("@a,1"))
        assert isinstance(found, FilesystemPlan)
        assert steps(limited_to(found, 3)) == ["@a->@b", "@b->@c"]
        assert steps(limited_to(found, 2)) == ["@a->@b"]

    def test_a_target_that_is_gone_limits_nothing(self) -> None:
        found = plan("@a,1 @c,3", side("@a,1"))
        assert isinstance(found, FilesystemPlan)
        assert limited_to(found, 2) == found


@st.composite
def tokens(draw: st.DrawFn) -> ResumeToken | UnusableToken | None:
    if draw(st.booleans()):
        return draw(st.sampled_from([None, UnusableToken("corrupt")]))
    to = draw(st.integers(1, 12))
    return token(to, draw(st.none() | st.integers(1, 12)))


@given(
    listing(),
    st.none() | listing(),
    st.booleans(),
    tokens(),
    st.sampled_from(list(InitialReplication)),
)
def test_a_plan_is_sound(
    sent: list[FilesystemVersion],
    received: list[FilesystemVersion] | None,
    placeholder: bool,
    decoded: ResumeToken | UnusableToken | None,
    initial: InitialReplication,
) -> None:
    receiver = None
    if received is not None:
        listed = Filesystem(
            path=FS, is_placeholder=placeholder, resume_token="T" if decoded else None
        )
        receiver = Side(filesystem=listed, versions=received)
    sender = Side(filesystem=Filesystem(path=FS), versions=sent)
    found = plan_filesystem(sender=sender, receiver=receiver, token=decoded, initial=initial)
    if isinstance(found, Refusal):
        assert "next:" in found.text
        return
    snapshots = {v.guid for v in received or () if v.is_snapshot}
    for index, step in enumerate(found.steps):
        assert step.to in sent
        assert step.to.is_snapshot
        assert step.to.guid not in snapshots or placeholder
        if step.from_ is None:
            # a full stream is only ever first, and never meant for existing data
            assert index == 0
            assert not snapshots or placeholder
        else:
            assert step.from_ in sent
            assert step.from_.createtxg < step.to.createtxg
        if index:
            assert step.from_ == found.steps[index - 1].to
            assert step.resume_token is None
    if found.steps and found.steps[0].from_ is not None and found.steps[0].resume_token is None:
        assert received is not None
        newest = max(v.createtxg for v in received if v.is_snapshot)
        assert found.steps[0].from_.guid == newest
    if found.steps:
        assert found.steps[-1].to.createtxg == max(v.createtxg for v in sent if v.is_snapshot)


def test_notation() -> None:
    assert version("@a,1,7").createtxg == 7
    assert version("#a,1").userrefs is None
