"""Confinement, placeholders, properties, requests and blame: the receiver's and sender's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replication.notation import path, version, versions
from zrepl_trio.endpoint.blame import cause
from zrepl_trio.endpoint.confine import Confinement
from zrepl_trio.endpoint.listing import covering_roots
from zrepl_trio.endpoint.placeholders import (
    PlaceholderEncryption,
    missing_parents,
    placeholder_properties,
)
from zrepl_trio.endpoint.received_properties import (
    ACTING_ON_FILESYSTEMS,
    ACTING_ON_VOLUMES,
    ReceivedProperties,
)
from zrepl_trio.endpoint.requests import (
    MAX_TOKEN_CHARS,
    check_encryption,
    check_features,
    check_token,
    check_token_text,
    find_version,
)
from zrepl_trio.errors import (
    BadResumeToken,
    DatasetNotFound,
    NoSpace,
    ReceiveInterrupted,
    Refused,
    SourceFailed,
    TransportError,
    ZfsError,
    ZreplError,
)
from zrepl_trio.zfs.model import Features, ResumeToken, SendFlags
from zrepl_trio.zfs.names import DatasetPath, InvalidName, check_identity

ROOT = path("backup/zrepl")
HOSTILE = [
    "",
    "..",
    "a/../../b",
    "a//b",
    "/a",
    "a/",
    "-rf",
    "a@b",
    "a#b",
    "a\nb",
    "a\0b",
    "ä",
    "a%b",
    "a/./b",
    "d" * 256,
]


class TestConfinement:
    def test_pull_maps_below_the_root(self) -> None:
        confined = Confinement(ROOT)
        assert confined.local("tank/a") == "backup/zrepl/tank/a"
        assert confined.wire(path("backup/zrepl/tank/a")) == "tank/a"

    def test_sink_adds_the_identity(self) -> None:
        confined = Confinement(ROOT, check_identity("app-srv"))
        assert confined.local("tank/a") == "backup/zrepl/app-srv/tank/a"
        assert confined.wire(path("backup/zrepl/app-srv/tank/a")) == "tank/a"

    @pytest.mark.parametrize("outside", ["backup", "backup/zrepl", "backup/zrepl2/a", "x"])
    def test_what_is_not_below_has_no_name_on_the_wire(self, outside: str) -> None:
        assert Confinement(ROOT).wire(path(outside)) is None

    def test_another_clients_data_has_no_name(self) -> None:
        confined = Confinement(ROOT, check_identity("a"))
        assert confined.wire(path("backup/zrepl/a2/x")) is None
        assert confined.wire(path("backup/zrepl/a")) is None

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_names_are_refused(self, name: str) -> None:
        with pytest.raises(Refused, match="cannot place"):
            Confinement(ROOT).local(name)

    @given(st.text(max_size=300))
    def test_whatever_is_accepted_stays_below_the_root(self, name: str) -> None:
        confined = Confinement(ROOT, check_identity("id"))
        try:
            local = confined.local_snapshot(name, "s")
        except Refused:
            return
        assert local.is_below("backup/zrepl/id")
        assert ".." not in local.components
        assert len(local) + 2 <= 255
        assert confined.wire(local) == name

    def test_the_whole_name_is_limited_with_its_snapshot(self) -> None:
        confined = Confinement(ROOT)
        wire = "d" * (255 - len(ROOT) - 1 - 5)
        assert len(confined.local_snapshot(wire, "snap")) == 250
        with pytest.raises(Refused, match="256 bytes"):
            confined.local_snapshot(wire, "snap1")

    @pytest.mark.parametrize("snapshot", ["", "a@b", "a/b", "..", "a\n", "x" * 256])
    def test_hostile_snapshot_names_are_refused(self, snapshot: str) -> None:
        with pytest.raises(Refused):
            Confinement(ROOT).local_snapshot("tank", snapshot)


class TestPlaceholders:
    def test_parents_are_made_topmost_first_and_only_below_the_root(self) -> None:
        assert missing_parents(
            root=ROOT,
            target=path("backup/zrepl/a/b/c"),
            existing={path("backup"), ROOT, path("backup/zrepl/a")},
        ) == [path("backup/zrepl/a/b")]

    def test_a_missing_root_is_refused(self) -> None:
        with pytest.raises(Refused, match=r"root_fs backup/zrepl does not exist: create it"):
            missing_parents(root=ROOT, target=path("backup/zrepl/a"), existing={path("backup")})

    @pytest.mark.parametrize(
        ("encryption", "extra"),
        [
            (PlaceholderEncryption.OFF, {"encryption": "off"}),
            (PlaceholderEncryption.INHERIT, {}),
        ],
    )
    def test_properties(self, encryption: PlaceholderEncryption, extra: dict[str, str]) -> None:
        made = placeholder_properties(
            path("backup/zrepl/a"), client_root=ROOT, encryption=encryption
        )
        assert made == {"zrepl:placeholder": "on", "mountpoint": "none", **extra}

    def test_unspecified_encryption_is_an_error_below_the_clients_root(self) -> None:
        client = path("backup/zrepl/id")
        unspecified = PlaceholderEncryption.UNSPECIFIED
        assert "encryption" not in placeholder_properties(
            client, client_root=client, encryption=unspecified
        )
        with pytest.raises(Refused, match=r"set .recv.placeholder.encryption. to .inherit."):
            placeholder_properties(
                path("backup/zrepl/id/a"), client_root=client, encryption=unspecified
            )


class TestReceivedProperties:
    def test_what_acts_is_excluded(self) -> None:
        excluded = ReceivedProperties().excluded(is_volume=False)
        assert set(excluded) == set(ACTING_ON_FILESYSTEMS)
        assert {"mountpoint", "canmount", "readonly", "exec", "setuid", "devices"} <= set(excluded)

    def test_volumes_have_their_own(self) -> None:
        excluded = ReceivedProperties().excluded(is_volume=True)
        assert set(excluded) == set(ACTING_ON_VOLUMES)
        assert "mountpoint" not in excluded

    def test_before_the_type_is_known_all_are_excluded_once(self) -> None:
        excluded = ReceivedProperties().excluded(is_volume=None)
        assert set(excluded) == {*ACTING_ON_FILESYSTEMS, *ACTING_ON_VOLUMES}
        assert len(set(excluded)) == len(excluded)

    def test_what_volumes_would_inherit_is_excluded_from_filesystems_too(self) -> None:
        assert set(ACTING_ON_VOLUMES) <= set(ACTING_ON_FILESYSTEMS)

    def test_the_jobs_own_rules_win(self) -> None:
        rules = ReceivedProperties(
            inherit=("compression", "exec"),
            override={"mountpoint": "none"},
            accept=frozenset({"readonly"}),
        )
        excluded = rules.excluded(is_volume=False)
        assert excluded[:2] == ("compression", "exec")
        assert "mountpoint" not in excluded
        assert "readonly" not in excluded
        assert excluded.count("exec") == 1

    def test_contradictions_are_refused(self) -> None:
        with pytest.raises(Refused, match=r"exec stands in both `inherit` and `accept`"):
            ReceivedProperties(inherit=("exec",), accept=frozenset({"exec"}))
        with pytest.raises(Refused, match=r"`inherit` and `override`"):
            ReceivedProperties(inherit=("exec",), override={"exec": "on"})


FS = path("tank/a")
A, B = versions("@a,1 @b,2")


class TestRequests:
    def test_our_own_record_is_what_counts(self) -> None:
        claimed = version("@b,2,999")
        assert find_version(FS, claimed, [A, B]) is B

    def test_another_guid_is_refused(self) -> None:
        with pytest.raises(Refused, match=r"tank/a@b is not the one meant: its guid is 0x2"):
            find_version(FS, version("@b,3"), [A, B])

    def test_a_missing_version_says_so(self) -> None:
        with pytest.raises(DatasetNotFound, match=r"tank/a#b does not exist"):
            find_version(FS, version("#b,2"), [A, B])

    @pytest.mark.parametrize(
        ("flags", "encrypted", "refused"),
        [
            (SendFlags(), False, None),
            (SendFlags(), True, None),
            (SendFlags(encrypted=True), True, None),
            (SendFlags(encrypted=True, raw=True), True, None),
            (SendFlags(raw=True), False, None),
            (SendFlags(encrypted=True), False, "is not encrypted, but the job demands it"),
            (SendFlags(raw=True), True, "is encrypted and `send.raw: true`"),
        ],
    )
    def test_encryption_policy(
        self, flags: SendFlags, encrypted: bool, refused: str | None
    ) -> None:
        if refused is None:
            check_encryption(FS, flags, encrypted=encrypted)
        else:
            with pytest.raises(Refused, match=refused):
                check_encryption(FS, flags, encrypted=encrypted)

    def test_features(self) -> None:
        check_features(SendFlags(encrypted=True), Features(), resuming=True)
        with pytest.raises(Refused, match="native encryption"):
            check_features(
                SendFlags(backup_properties=True), Features(encryption=False), resuming=False
            )
        with pytest.raises(Refused, match="cannot resume"):
            check_features(SendFlags(), Features(resumable_send=False), resuming=True)

    @pytest.mark.parametrize(
        ("token", "flags", "encrypted", "fault"),
        [
            (ResumeToken(to_name="tank/a@b", to_guid=2, from_guid=1), SendFlags(), False, None),
            (
                ResumeToken(to_name="tank/a@b", to_guid=2, from_guid=1, raw_ok=True),
                SendFlags(encrypted=True),
                True,
                None,
            ),
            (
                ResumeToken(to_name="tank/secret@b", to_guid=2, from_guid=1),
                SendFlags(),
                False,
                r"it is for 'tank/secret'",
            ),
            (
                ResumeToken(to_name="tank/a@b", to_guid=3, from_guid=1),
                SendFlags(),
                False,
                "ends at guid 0x3",
            ),
            (ResumeToken(to_name="tank/a@b", to_guid=2), SendFlags(), False, "it has no base"),
            (
                ResumeToken(to_name="tank/a@b", to_guid=2, from_guid=9),
                SendFlags(),
                False,
                "base guid 0x9",
            ),
            (
                ResumeToken(to_name="tank/a@b", to_guid=2, from_guid=1),
                SendFlags(encrypted=True),
                True,
                "in clear text",
            ),
            (
                ResumeToken(to_name="tank/a@b", to_guid=2, from_guid=1, raw_ok=True),
                SendFlags(),
                True,
                "raw send",
            ),
        ],
    )
    def test_forged_tokens(
        self, token: ResumeToken, flags: SendFlags, encrypted: bool, fault: str | None
    ) -> None:
        if fault is None:
            check_token(FS, token, from_=A, to=B, flags=flags, encrypted=encrypted)
        else:
            with pytest.raises(BadResumeToken, match=fault):
                check_token(FS, token, from_=A, to=B, flags=flags, encrypted=encrypted)

    @pytest.mark.parametrize("text", ["", "a b", "a\0b", "a\nb", "ä", "x" * (MAX_TOKEN_CHARS + 1)])
    def test_what_cannot_be_an_argument_is_no_token(self, text: str) -> None:
        with pytest.raises(BadResumeToken):
            check_token_text(FS, text)


class TestBlame:
    link = TransportError("link broke")
    source = SourceFailed("zfs send died")
    full = NoSpace("out of space")
    early = ReceiveInterrupted("stream ended early", token="1-2")

    @pytest.mark.parametrize(
        ("stream", "broken", "receive", "blamed"),
        [
            (None, False, None, None),
            (link, False, early, link),
            (link, False, None, link),
            (source, False, ZfsError("checksum mismatch"), source),
            (source, False, None, source),
            (None, True, full, full),
            (None, True, early, early),
            (None, False, early, early),
        ],
    )
    def test_the_cause_is_named(
        self,
        stream: ZreplError | None,
        broken: bool,
        receive: ZfsError | None,
        blamed: ZreplError | None,
    ) -> None:
        assert cause(FS, stream=stream, sink_broken=broken, receive=receive) is blamed

    def test_a_receive_that_ends_too_early_is_no_success(self) -> None:
        error = cause(FS, stream=None, sink_broken=True, receive=None)
        assert isinstance(error, ZfsError)
        assert "ended before the end of the stream" in str(error)

    def test_kept_state_is_mentioned(self) -> None:
        error = TransportError("gone")
        cause(FS, stream=error, sink_broken=False, receive=self.early)
        assert error.__notes__ == ["tank/a: what arrived is kept, the next run resumes it"]


@pytest.mark.parametrize(
    ("paths", "roots"),
    [
        ([], []),
        (["a", "a/b", "a/b/c"], ["a"]),
        (["a/b", "a/c", "a"], ["a"]),
        (["a/b", "a-b/c", "a/b/d"], ["a/b", "a-b/c"]),
        (["t/a", "t/a b", "t/a/x"], ["t/a", "t/a b"]),
    ],
)
def test_covering_roots(paths: list[str], roots: list[str]) -> None:
    assert set(covering_roots([path(p) for p in paths])) == set(roots)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "a-", "a b"]), min_size=1, max_size=4)))
def test_each_path_is_covered_by_exactly_one_root(parts: list[list[str]]) -> None:
    paths = [DatasetPath("/".join(p)) for p in parts]
    roots = covering_roots(paths)
    for each in paths:
        assert sum(each.is_at_or_below(root) for root in roots) == 1


def test_hostile_list_is_what_names_refuse() -> None:
    for name in HOSTILE:
        with pytest.raises(InvalidName):
            DatasetPath.parse(name)
