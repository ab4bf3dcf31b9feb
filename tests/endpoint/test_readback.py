"""What zfs made is read back after each create and receive; a breach of policy stops the filesystem."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.endpoint.test_receiver import LOCAL, receive
from tests.replication.notation import path
from tests.replication.pair import MIB, ROOT, Pair
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.readback import Received, check_placeholder, check_received
from zrepl_trio.endpoint.received_properties import ReceivedProperties
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.errors import DatasetExists, PolicyBreach
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.argv import PLACEHOLDER
from zrepl_trio.zfs.model import Property, PropertySource, ReceiveArgs, SendFlags
from zrepl_trio.zfs.names import DatasetPath

FS, PARENT, TOP = path("backup/sink/tank/a"), path("backup/sink/tank"), path("backup/sink")
LOCALLY, RECEIVED, INHERITED, NONE, DEFAULT = (
    PropertySource.LOCAL,
    PropertySource.RECEIVED,
    PropertySource.INHERITED,
    PropertySource.NONE,
    PropertySource.DEFAULT,
)
CLEAR = {"encryption": Property("off", DEFAULT), "encryptionroot": Property("-", NONE)}
PLAIN = {PLACEHOLDER: Property("-", NONE), "origin": Property("-", NONE), **CLEAR}
MARKED = {PLACEHOLDER: Property("on", LOCALLY), **CLEAR}


def sealed(root: str) -> dict[str, Property]:
    """An encrypted dataset whose key is that root's."""
    return {
        "encryption": Property("aes-256-gcm", NONE),
        "encryptionroot": Property(root, NONE),
    }


def check(
    found: dict[str, Property],
    *,
    parent: dict[str, Property] = PLAIN,
    top: dict[str, Property] = PLAIN,
    rules: ReceivedProperties | None = None,
    exclude: tuple[str, ...] = (),
    encryption: PlaceholderEncryption = PlaceholderEncryption.INHERIT,
    fresh: bool = True,
    first: bool = True,
    raw: bool | None = None,
) -> None:
    rules = rules or ReceivedProperties()
    what = Received(
        args=ReceiveArgs(dataset=FS, snapshot="1", exclude=exclude, override=rules.override),
        rules=rules,
        encryption=encryption,
        fresh=fresh,
        first=first,
        raw=raw,
    )
    check_received(
        FS,
        what,
        {FS: {**PLAIN, **found}, PARENT: {**PLAIN, **parent}, TOP: {**PLAIN, **top}},
        root=TOP,
    )


def test_a_clone_is_nothing_that_is_sent() -> None:
    clone = {"origin": Property("backup/two/secret@1", NONE)}
    with pytest.raises(PolicyBreach, match=r"made it a clone .*: destroy") as breach:
        check(clone)
    assert "secret" not in str(breach.value)
    # the admin may have made it one since, by `zfs promote`
    check(clone, fresh=False, first=False)


class TestEncryption:
    @pytest.mark.parametrize("raw", [None, False])
    def test_clear_text_below_clear_text_is_fine(self, raw: bool | None) -> None:
        check({}, raw=raw)
        check({}, parent=MARKED, raw=raw)

    @pytest.mark.parametrize("raw", [None, False, True])
    def test_an_encrypted_replica_is_fine_anywhere(self, raw: bool | None) -> None:
        for parent in (PLAIN, MARKED):
            check(sealed(FS), parent=parent, top=sealed(TOP), raw=raw)
        mine = PARENT if raw is False else FS
        check(sealed(mine), parent=sealed(PARENT), top=sealed(TOP), raw=raw)

    def test_a_plain_stream_has_its_parents_key(self) -> None:
        with pytest.raises(PolicyBreach, match=f"encryptionroot is '{FS}'.*'{PARENT}' is demanded"):
            check(sealed(FS), parent=sealed(PARENT), top=sealed(TOP), raw=False)
        check(sealed(FS), parent=sealed(PARENT), top=sealed(TOP), raw=False, fresh=False)

    def test_a_raw_stream_in_clear_text(self) -> None:
        with pytest.raises(
            PolicyBreach, match=r"tank/a: encryption is 'off' .*raw stream.*destroy"
        ):
            check({}, raw=True)

    @pytest.mark.parametrize("fresh", [True, False])
    def test_clear_text_below_an_encrypted_parent(self, fresh: bool) -> None:
        with pytest.raises(PolicyBreach, match=r"'aes-256-gcm as its parent' is demanded"):
            check({}, parent=sealed(TOP), fresh=fresh)

    def test_clear_text_below_a_clear_placeholder_in_an_encrypted_root(self) -> None:
        """zrepl#504."""
        with pytest.raises(PolicyBreach, match=r"encryption: off` if clear text is meant"):
            check({}, parent=MARKED, top=sealed(TOP))
        for meant in (PlaceholderEncryption.OFF, PlaceholderEncryption.UNSPECIFIED):
            check({}, parent=MARKED, top=sealed(TOP), encryption=meant)
        # below a replica that came in clear text, that is what it is
        check({}, parent=PLAIN, top=sealed(TOP))

    def test_an_override_decides(self) -> None:
        rules = ReceivedProperties(override={"encryption": "off"})
        check({}, parent=sealed(TOP), raw=True, rules=rules)
        with pytest.raises(PolicyBreach, match=r"'off' is demanded by `recv.properties.override`"):
            check(sealed(FS), rules=rules)
        with pytest.raises(PolicyBreach, match="'on' is demanded"):
            check({}, rules=ReceivedProperties(override={"encryption": "on"}))


@pytest.mark.parametrize(
    ("name", "wanted", "found", "source", "holds"),
    [
        ("readonly", "on", "on", LOCALLY, True),
        ("readonly", "on", "off", LOCALLY, False),
        ("readonly", "on", "on", INHERITED, False),
        ("readonly", "on", "on", RECEIVED, False),
        ("readonly", "on", "off", PropertySource.TEMPORARY, True),
        ("canmount", "noauto", "noauto", LOCALLY, True),
        ("canmount", "noauto", "on", LOCALLY, False),
        ("mountpoint", "/srv", "/srv", LOCALLY, True),
        ("mountpoint", "/srv", "/altroot/srv", LOCALLY, True),
        ("mountpoint", "/srv", "/etc", LOCALLY, False),
        ("mountpoint", "/srv", "-", NONE, True),
        ("quota", "10G", "10737418240", LOCALLY, True),
        ("compression", "gzip-6", "gzip", LOCALLY, True),
        ("compression", "gzip", "lz4", RECEIVED, False),
        ("com.sun:auto-snapshot", "false", "false", LOCALLY, True),
        ("com.sun:auto-snapshot", "false", "true", LOCALLY, False),
        ("com.sun:auto-snapshot", "false", "false", INHERITED, False),
        ("com.sun:auto-snapshot", "false", "-", NONE, False),
    ],
)
def test_an_override_is_in_force(
    name: str, wanted: str, found: str, source: PropertySource, holds: bool
) -> None:
    rules = ReceivedProperties(override={name: wanted})
    if holds:
        check({name: Property(found, source)}, rules=rules)
        return
    with pytest.raises(PolicyBreach) as breach:
        check({name: Property(found, source)}, rules=rules, fresh=False)
    assert str(breach.value) == (
        f"{FS}: {name} is {found!r} ({source.value}), but {wanted!r} is demanded by "
        f"`recv.properties.override`: run `zfs set {name}={wanted} {FS}` and find out what keeps "
        "it from that"
    )


@pytest.mark.parametrize(
    ("name", "source", "fresh", "holds"),
    [
        ("mountpoint", RECEIVED, True, False),
        ("mountpoint", RECEIVED, False, False),
        ("mountpoint", INHERITED, True, True),
        ("mountpoint", LOCALLY, False, True),
        # what an earlier receive brought of these, `-x` leaves
        ("canmount", RECEIVED, False, True),
        ("canmount", RECEIVED, True, False),
        ("a:b", RECEIVED, False, False),
    ],
)
@pytest.mark.parametrize("inherit", [True, False])
def test_what_is_left_out_does_not_come_from_the_sender(
    name: str, source: PropertySource, fresh: bool, holds: bool, inherit: bool
) -> None:
    rules = ReceivedProperties(inherit=(name,) if inherit else ())
    found = {name: Property("x", source)}
    if holds:
        check(found, rules=rules, exclude=(name,), fresh=fresh)
        return
    with pytest.raises(
        PolicyBreach, match=rf"{name} is 'x' \(received\).*`zfs inherit {name} "
    ) as e:
        check(found, rules=rules, exclude=(name,), fresh=fresh)
    assert ("recv.properties.inherit" in str(e.value)) == inherit


class TestPlaceholder:
    WANTED = {PLACEHOLDER: "on", "mountpoint": "none"}  # noqa: RUF012
    MADE = {**MARKED, "mountpoint": Property("none", LOCALLY)}  # noqa: RUF012

    def test_as_it_should_be(self) -> None:
        check_placeholder(FS, self.MADE, wanted=self.WANTED, parent=CLEAR)
        check_placeholder(FS, {**self.MADE, **sealed(TOP)}, wanted=self.WANTED, parent=sealed(TOP))
        off = {**self.WANTED, "encryption": "off"}
        check_placeholder(FS, self.MADE, wanted=off, parent=sealed(TOP))

    @pytest.mark.parametrize(
        ("changed", "extra", "parent", "text"),
        [
            ({}, {}, sealed(TOP), "encryption is 'off'.*as its parent"),
            (sealed(FS), {}, sealed(TOP), "encryptionroot is 'backup/sink/tank/a'"),
            (sealed(FS), {}, CLEAR, "encryption is 'aes-256-gcm'"),
            (sealed(FS), {"encryption": "off"}, CLEAR, "encryption is 'aes-256-gcm'.*'off' is"),
            ({PLACEHOLDER: Property("on", INHERITED)}, {}, CLEAR, "placeholder is 'on' .inherited"),
            ({"mountpoint": Property("/x", LOCALLY)}, {}, CLEAR, "mountpoint is '/x'"),
        ],
    )
    def test_otherwise(
        self,
        changed: dict[str, Property],
        extra: dict[str, str],
        parent: dict[str, Property],
        text: str,
    ) -> None:
        found = {**self.MADE, **changed}
        with pytest.raises(PolicyBreach, match=text):
            check_placeholder(FS, found, wanted={**self.WANTED, **extra}, parent=parent)


# --- a receiver whose zfs does otherwise ---


@pytest.fixture
async def pair() -> Pair:
    pair = Pair()
    pair.fill("tank/a", MIB)
    await pair.snapshot("tank/a", "1")
    return pair


def before(pair: Pair, call: str, action: Callable[[str], None]) -> None:
    """Once, right before that call."""

    async def hook(name: str, dataset: str) -> None:
        if name == call:
            pair.target.before = None
            action(dataset)

    pair.target.before = hook


def seal(pair: Pair, name: DatasetPath) -> None:
    """Make the (empty) dataset an encryption root."""
    pair.target.world.open(name).local.update(encryption="aes-256-gcm", encryptionroot="self")


def strip(pair: Pair, name: str) -> None:
    for key in ("encryption", "encryptionroot"):
        pair.target.world.open(name).local.pop(key, None)


@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [(PlaceholderEncryption.INHERIT, True), (PlaceholderEncryption.OFF, False)],
)
async def test_placeholders_and_replicas_are_as_the_mode_says(
    mode: PlaceholderEncryption, encrypted: bool
) -> None:
    pair = Pair(placeholder=mode)
    pair.fill("tank/a", 1000)
    await pair.snapshot("tank/a", "1")
    seal(pair, ROOT)
    await receive(pair)
    for name in (LOCAL.ancestors()[-1], LOCAL):
        dataset = await pair.target.dataset(name)
        assert dataset is not None
        assert dataset.encrypted == encrypted


async def test_a_placeholder_in_clear_text_is_removed_again_before_anything_is_below_it(
    pair: Pair,
) -> None:
    seal(pair, ROOT)
    parent = LOCAL.ancestors()[-1]
    before(pair, "properties", lambda _: before(pair, "properties", lambda name: strip(pair, name)))
    with pytest.raises(PolicyBreach, match=rf"{parent}: encryption is 'off'.*as its parent"):
        await receive(pair)
    assert await pair.target.dataset(parent) is None
    # the next run makes it anew
    await receive(pair)
    replica = await pair.target.dataset(LOCAL)
    assert replica is not None
    assert replica.encrypted


async def test_a_bad_placeholder_that_holds_something_stays_and_the_error_says_so(
    pair: Pair,
) -> None:
    seal(pair, ROOT)
    parent = LOCAL.ancestors()[-1]

    def spoil(name: str) -> None:
        strip(pair, name)
        pair.target.world.snapshots([(name, "taken")])

    before(pair, "properties", lambda _: before(pair, "properties", spoil))
    with pytest.raises(PolicyBreach) as breach:
        await receive(pair)
    assert "it is still there" in breach.value.__notes__[0]
    assert [v.name for v in await pair.target.versions(parent)] == ["taken"]


async def test_a_replica_in_clear_text_stops_its_filesystem_and_stays_stopped(pair: Pair) -> None:
    seal(pair, ROOT)
    before(pair, "properties_of", lambda name: strip(pair, name))
    report = await pair.run(options=ReplicationOptions(attempts=1))
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert f"{LOCAL}: encryption is 'off'" in report.error
    assert await pair.kept("tank/a") == set()
    await pair.snapshot("tank/a", "2", 10)
    report = await pair.run(options=ReplicationOptions(attempts=1))
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert f"{LOCAL}: encryption is 'off'" in report.error


async def test_a_raw_stream_arrives_encrypted() -> None:
    pair = Pair(flags=SendFlags(encrypted=True))
    pair.source.add_filesystem("tank/a", {"encryption": "on"})
    pair.fill("tank/a", MIB)
    await pair.snapshot("tank/a", "1")
    await pair.settled()
    replica = await pair.target.dataset(LOCAL)
    assert replica is not None
    assert replica.encrypted
    await pair.snapshot("tank/a", "2", 10)
    before(pair, "properties_of", lambda name: strip(pair, name))
    report = await pair.run(sender=pair.sender)
    assert "that of the raw stream" in report.error


async def test_an_override_that_zfs_ignores_stops_the_filesystem(pair: Pair) -> None:
    rules = ReceivedProperties(override={"readonly": "on"})
    pair.receiver = Receiver(
        pair.target,
        job="dst",
        root=ROOT,
        placeholder_encryption=PlaceholderEncryption.INHERIT,
        properties=rules,
    )
    await receive(pair)
    await pair.snapshot("tank/a", "2", 10)
    before(
        pair,
        "properties_of",
        lambda name: pair.target.world.open(name).local.update(readonly="off"),
    )
    with pytest.raises(PolicyBreach, match=f"run `zfs set readonly=on {LOCAL}`"):
        await receive(pair, to="2", from_="1")
    # not held, so not confirmed
    assert await pair.kept("tank/a") == {"@1=zrepl_last_received_J_dst"}


async def test_one_command_reads_it_all_back(pair: Pair) -> None:
    await receive(pair)
    await pair.snapshot("tank/a", "2", 10)
    pair.target.calls.clear()
    await receive(pair, to="2", from_="1")
    reads = [
        call.split()[0]
        for call in pair.target.calls
        if call.split()[0] in {"dataset", "datasets", "versions", "properties", "properties_of"}
    ]
    assert reads == ["dataset", "properties_of", "versions"]


async def test_a_parent_made_by_another_is_read_for_the_next() -> None:
    """The first placeholder is there before us, and encrypted: the second must be as it is."""
    pair = Pair(filesystems={"tank/p/a": True})
    pair.fill("tank/p/a", 1000)
    await pair.snapshot("tank/p/a", "1")
    first = ROOT.child("tank")

    def faster(name: str) -> None:
        assert name == first
        pair.target.add_filesystem(first, {PLACEHOLDER: "on", "mountpoint": "none"})
        seal(pair, first)

    before(pair, "create_filesystem", faster)
    report = await pair.run()
    assert report.error == ""
    second = await pair.target.properties(first.child("p"), ["encryptionroot"])
    assert second["encryptionroot"].value == first
    with pytest.raises(DatasetExists):
        await pair.target.create_filesystem(first, {})
