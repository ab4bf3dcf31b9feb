"""Which serving job a `connect` section leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulate.setups import PULL, SOURCE, hosts_of
from zrepl_trio.errors import Refused
from zrepl_trio.simulate.joining import join_all, parse_join

PRUNING = 'pruning: {keep_sender: [{type: regex, regex: ".*"}], keep_receiver: [{type: regex, regex: ".*"}]}'


def source(
    name: str = "source", serve: str = "type: stdinserver, client_identities: [backup]"
) -> str:
    return f"""
- name: {name}
  type: source
  serve: {{{serve}}}
  filesystems: {{"tank": true}}
  snapshotting: {{type: manual}}
"""


def pull(name: str, connect: str) -> str:
    return f"""
- name: {name}
  type: pull
  root_fs: storage/{name}
  interval: 1h
  connect: {{{connect}}}
  {PRUNING}
"""


def push(name: str, connect: str) -> str:
    return f"""
- name: {name}
  type: push
  filesystems: {{"tank": true}}
  snapshotting: {{type: manual}}
  connect: {{{connect}}}
  {PRUNING}
"""


def sink(serve: str, name: str = "sink") -> str:
    return f"- {{name: {name}, type: sink, root_fs: storage/{name}, serve: {{{serve}}}}}\n"


SSH = "type: ssh+stdinserver, host: {}, user: root, port: 22, identity_file: /k"
TLS = "type: tls, {}, ca: /ca, cert: /cert, key: /key"


def joined(directory: Path, *specs: str, **jobs: str) -> list[str]:
    configs = {name: f"jobs:\n{text}" for name, text in jobs.items()}
    hosts = hosts_of(directory, **configs)
    return [str(join) for join in join_all(hosts, [parse_join(spec) for spec in specs])]


def test_a_puller_and_its_source(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, app=SOURCE, backup=PULL)
    assert [str(join) for join in join_all(hosts)] == ["backup/pull to app/source as backup"]


def test_of_several_peers_that_with_the_name_is_meant(tmp_path: Path) -> None:
    text = pull("p1", SSH.format("two.example.com")) + pull("p2", SSH.format("one"))
    assert joined(tmp_path, one=source(), two=source(), backup=text) == [
        "backup/p1 to two/source as backup",
        "backup/p2 to one/source as backup",
    ]


def test_of_several_jobs_of_a_peer_that_which_knows_this_host(tmp_path: Path) -> None:
    text = source("s1", "type: stdinserver, client_identities: [other]") + source("s2")
    found = joined(tmp_path, app=text, backup=pull("pull", SSH.format("app")))
    assert found == ["backup/pull to app/s2 as backup"]


def test_ports_tell_tcp_and_tls_peers_apart(tmp_path: Path) -> None:
    app = (
        push("a", "type: tcp, address: 'h:8888'")
        + push("b", "type: tcp, address: 'h:9999'")
        + push("c", TLS.format("address: 'h:8888', server_cn: h"))
    )
    backup = (
        sink('type: tcp, listen: ":9999", clients: {"10.0.0.1": other, "10.0.0.2": app}', "nines")
        + sink('type: tcp, listen: ":8888", clients: {"10.0.0.0/8": "rack-*"}', "eights")
        + sink(TLS.format("listen: ':8888', client_cns: [somebody]"), "tls")
    )
    assert joined(tmp_path, app=app, backup=backup) == [
        "app/a to backup/eights as rack-app",
        "app/b to backup/nines as app",
        "app/c to backup/tls as somebody",
    ]


def test_local_jobs_meet_within_their_config_alone(tmp_path: Path) -> None:
    text = sink("type: local, listener_name: here") + push(
        "push", "type: local, listener_name: here, client_identity: me"
    )
    other = sink("type: local, listener_name: here")
    assert joined(tmp_path, a=text, b=other) == ["a/push to a/sink as me"]


def test_of_two_sinks_with_one_local_listener_the_first_is_meant(tmp_path: Path) -> None:
    text = sink("type: local, listener_name: here", "one")
    text += sink("type: local, listener_name: here", "two")
    text += push("push", "type: local, listener_name: here, client_identity: me")
    assert joined(tmp_path, a=text) == ["a/push to a/one as me"]


def test_a_chain_and_a_fan_out(tmp_path: Path) -> None:
    found = joined(
        tmp_path,
        app=source("source", "type: stdinserver, client_identities: [near, far]"),
        near=pull("pull", SSH.format("app")) + source("on", "type: stdinserver, client_identities: [third]"),
        far=pull("pull", SSH.format("app")),
        third=pull("pull", SSH.format("near")),
    )  # fmt: skip
    assert found == [
        "near/pull to app/source as near",
        "far/pull to app/source as far",
        "third/pull to near/on as third",
    ]


def test_a_missing_peer_is_told_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        joined(tmp_path, backup=pull("pull", SSH.format("app.example.com")))
    text = str(refused.value)
    assert (
        f"{tmp_path}/backup.yml: job 'pull' connects to app.example.com by ssh+stdinserver" in text
    )
    assert (
        "has a source job that serves that: give the config of app.example.com with --peer" in text
    )


def test_a_peer_on_another_port_or_of_the_wrong_side_is_none(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"connects to h:1 by tcp.*sink job"):
        joined(
            tmp_path,
            app=push("push", "type: tcp, address: 'h:1'"),
            backup=sink('type: tcp, listen: ":2", clients: {"::1": app}'),
        )
    with pytest.raises(Refused, match="which no sink job of the same config serves"):
        joined(
            tmp_path,
            app=push("push", "type: local, listener_name: here, client_identity: me")
            + source("s", "type: local, listener_name: here"),
        )


def test_a_chain_without_its_first_config_is_not_joined_to_itself(tmp_path: Path) -> None:
    on = source("on", "type: stdinserver, client_identities: [third]")
    with pytest.raises(Refused, match=r"give the config of app\.example\.com with --peer"):
        joined(
            tmp_path,
            near=pull("pull", SSH.format("app.example.com")) + on,
            third=pull("pull", SSH.format("near")),
        )


def test_a_host_may_connect_to_itself_by_its_name(tmp_path: Path) -> None:
    for index, name in enumerate(("app.example.com", "localhost")):
        text = source() + pull("pull", SSH.format(name))
        (tmp_path / str(index)).mkdir()
        assert joined(tmp_path / str(index), app=text) == ["app/pull to app/source as backup"]


def test_a_host_that_is_named_and_does_not_serve_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"connects to other by ssh\+stdinserver, but .*other\.yml has no source job"
    ):
        joined(
            tmp_path,
            app=source(),
            other=sink("type: stdinserver, client_identities: [x]"),
            backup=pull("pull", SSH.format("other")),
        )  # fmt: skip


def test_who_is_taken_for_a_host_of_another_name_is_noted(tmp_path: Path) -> None:
    jobs = {"app": source(), "backup": pull("pull", SSH.format("app.example.org"))}
    hosts = hosts_of(tmp_path, **{name: f"jobs:\n{text}" for name, text in jobs.items()})
    assert [join.note for join in join_all(hosts)] == [""]

    text = "jobs:\n" + pull("pull", SSH.format("different.example.org"))
    hosts = [hosts[0], *hosts_of(tmp_path, backup=text)]
    (join,) = join_all(hosts)
    assert (join.peer, join.peer_job) == ("app", "source")
    assert "connects to different.example.org, and no host here is called so" in join.note
    assert "say --join backup/pull=app/source;" in join.note
    assert [join.note for join in join_all(hosts, [parse_join("backup/pull=app/source")])] == [""]


def test_a_name_that_is_equal_goes_before_one_with_the_same_first_label(tmp_path: Path) -> None:
    clients = 'clients: {"10.0.0.1": web.paris, "10.0.0.2": web.london, "10.0.0.3": db}'
    jobs = {
        "web.paris": push("push", "type: tcp, address: 'sink:1'"),
        "web.london": push("push", "type: tcp, address: 'sink:1'"),
        "db": push("push", "type: tcp, address: 'sink:1'"),
        "sink": sink(f'type: tcp, listen: ":1", {clients}'),
    }
    assert joined(tmp_path, **jobs) == [
        "web.paris/push to sink/sink as web.paris",
        "web.london/push to sink/sink as web.london",
        "db/push to sink/sink as db",
    ]


@pytest.mark.parametrize(
    ("serve", "connect", "key"),
    [
        ('type: tcp, listen: ":1", clients: {"10.0.0.1": web}', "type: tcp, address: 'sink:1'", "clients"),
        (TLS.format("listen: ':1', client_cns: [web]"), TLS.format("address: 'sink:1', server_cn: s"), "client_cns"),
        ("type: stdinserver, client_identities: [web]", SSH.format("sink"), "client_identities"),
    ],
)  # fmt: skip
def test_two_hosts_are_one_client_only_if_that_is_said(
    tmp_path: Path, serve: str, connect: str, key: str
) -> None:
    jobs = {"a": push("push", connect), "b": push("push", connect), "sink": sink(serve)}
    with pytest.raises(Refused) as refused:
        joined(tmp_path, **jobs)
    text = str(refused.value)
    assert text.startswith("a/push and b/push would be the same client 'web' to sink/sink")
    assert f"in its `{key}`" in text
    said = "b/push=sink/sink:web"
    assert f"say --join {said}" in text
    hosts = hosts_of(tmp_path, **{name: f"jobs:\n{job}" for name, job in jobs.items()})
    first, second = join_all(hosts, [parse_join(said)])
    assert (first.identity, second.identity) == ("web", "web")
    assert "a/push and b/push are the same client 'web' to sink/sink" in first.note
    assert not second.note


def test_two_jobs_of_one_host_may_be_one_client(tmp_path: Path) -> None:
    found = joined(
        tmp_path,
        app=source(),
        backup=pull("p1", SSH.format("app")) + pull("p2", SSH.format("app")),
    )
    assert found == ["backup/p1 to app/source as backup", "backup/p2 to app/source as backup"]


def test_addresses_are_told_apart_whole(tmp_path: Path) -> None:
    """They have no short forms."""
    sinks = {
        name: "jobs:\n"
        + sink('type: tcp, listen: ":1", clients: {"10.9.9.1": "10.9.9.1", "10.9.9.2": "10.9.9.2"}')
        for name in ("10.0.0.1", "10.0.0.2")
    }
    app = "jobs:\n" + push("push", "type: tcp, address: '10.0.0.2:1'")
    hosts = hosts_of(tmp_path, **sinks, **{"10.9.9.2": app})
    assert [str(join) for join in join_all(hosts)] == ["10.9.9.2/push to 10.0.0.2/sink as 10.9.9.2"]


def test_what_is_in_doubt_is_asked_for_and_may_be_said(tmp_path: Path) -> None:
    jobs = {
        "app": source("s1") + source("s2", "type: stdinserver, client_identities: [one, two]"),
        "x": pull("pull", SSH.format("app")),
    }
    with pytest.raises(
        Refused, match=r"any of app/s1, app/s2: say to which with --join x/pull=app"
    ):
        joined(tmp_path, **jobs)
    with pytest.raises(Refused, match=r"any of one, two to app/s2: say .*--join x/pull=app/s2:one"):
        joined(tmp_path, "x/pull=app/s2", **jobs)
    assert joined(tmp_path, "x/pull=app/s2:two", **jobs) == ["x/pull to app/s2 as two"]
    assert joined(tmp_path, "x/pull=app/s1", **jobs) == ["x/pull to app/s1 as backup"]
    with pytest.raises(Refused, match="knows no 'three', but one, two"):
        joined(tmp_path, "x/pull=app/s2:three", **jobs)
    with pytest.raises(Refused, match="cannot lead to app/s3; what it can: app/s1, app/s2"):
        joined(tmp_path, "x/pull=app/s3", **jobs)
    with pytest.raises(Refused, match=r"no active job 'nope' of a host 'x'; there are x/pull"):
        joined(tmp_path, "x/pull=app/s1", "x/nope=app/s1", **jobs)
    with pytest.raises(Refused, match="--join is given twice for x/pull"):
        joined(tmp_path, "x/pull=app/s1", "x/pull=app/s2:one", **jobs)


@pytest.mark.parametrize("text", ["", "a/b", "a=b", "a/b=c", "a/b=c/"])
def test_a_join_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="HOST/JOB=HOST/JOB"):
        parse_join(text)
