from __future__ import annotations

from collections.abc import Callable

import pytest

from zrepl_trio.config.addresses import (
    ClientPattern,
    HostPort,
    check_client_identity,
    check_identity_file,
    check_server_name,
    check_ssh_command,
    check_ssh_host,
    check_ssh_user,
)
from zrepl_trio.config.scalars import ScalarError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("server1.foo.bar:8888", "server1.foo.bar", "8888"),
        (":8888", "", "8888"),
        ("[::1]:8888", "::1", "8888"),
        ("[fe80::1%eth0]:8888", "fe80::1%eth0", "8888"),
        ("192.0.2.1:https", "192.0.2.1", "https"),
    ],
)
def test_host_and_port(text: str, host: str, port: str) -> None:
    address = HostPort.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "host",
        "::1:8888",
        "[::1]",
        "[::1]8888",
        "[::1:8888",
        "host:",
        "host:0",
        "host:65536",
        "ho st:1",
        "a]:1",
        "x:-1",
        "x:٣",
        "a..b:1",
        ".x:1",
        "a" * 64 + ".com:1",
    ],
)
def test_what_is_no_address_with_a_port(text: str) -> None:
    with pytest.raises(ScalarError):
        HostPort.parse(text)


@pytest.mark.parametrize(
    "text", ["app-srv.example.com", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "my_alias"]
)
def test_hosts_for_ssh(text: str) -> None:
    assert check_ssh_host(text) == text


@pytest.mark.parametrize("text", ["root", "zrepl-user", "DOMAIN\\user", "user@corp.example"])
def test_users_for_ssh(text: str) -> None:
    assert check_ssh_user(text) == text


@pytest.mark.parametrize("text", ["", "ssh", "/usr/bin/ssh", "./ssh"])
def test_commands_for_ssh(text: str) -> None:
    assert check_ssh_command(text) == text


@pytest.mark.parametrize("check", [check_ssh_host, check_ssh_user, check_ssh_command])
@pytest.mark.parametrize(
    "text", ["-oProxyCommand=sh", "-", "a b", "a\nb", "a\tb", "a\x00", "a\u200bb"]
)
def test_nothing_that_ssh_reads_as_something_else(check: Callable[[str], str], text: str) -> None:
    with pytest.raises(ScalarError):
        check(text)


@pytest.mark.parametrize("text", ["a@b", "a/b", "a;b", "$(a)", "`a`", "a|b", "a'b"])
def test_hosts_that_are_none(text: str) -> None:
    with pytest.raises(ScalarError):
        check_ssh_host(text)


@pytest.mark.parametrize("text", ["ssh://evil", "a;b", "a'b", "a\\"])
def test_users_that_are_none(text: str) -> None:
    with pytest.raises(ScalarError):
        check_ssh_user(text)


def test_a_server_name_is_one_that_a_certificate_can_hold() -> None:
    assert check_server_name("backup.example.com") == "backup.example.com"
    with pytest.raises(ScalarError):
        check_server_name("backup..example.com")


def test_an_identity_file_is_no_option() -> None:
    assert check_identity_file("/etc/zrepl/my key") == "/etc/zrepl/my key"
    with pytest.raises(ScalarError):
        check_identity_file("-F/etc/passwd")


@pytest.mark.parametrize("text", ["backup-srv.example.com", "a", "a b:c_d.e", "...", "i" * 255])
def test_client_identities(text: str) -> None:
    assert check_client_identity(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "../x", "a@b", "a\n", "a\x00", "ä", "i" * 256, "a%b", "a*"]
)
def test_what_is_no_client_identity(text: str) -> None:
    with pytest.raises(ScalarError):
        check_client_identity(text)


@pytest.mark.parametrize(
    ("pattern", "identity"),
    [
        ("192.168.123.234", "mysql01"),
        ("10.1.0.0/16", "subnet-*"),
        ("0.0.0.0/0", "*"),
        ("0::/0", "*"),
        ("fe80::/16%eth1", "san-*"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334%eth1", "specific"),
        ("10.1.4.0/24", "my-*-server"),
        ("10.1.2.3/24", "host-bits-set-*"),
    ],
)
def test_client_maps(pattern: str, identity: str) -> None:
    ClientPattern.parse(pattern).check_identity(identity)


@pytest.mark.parametrize(
    ("pattern", "identity"),
    [
        ("jimmy", "db"),
        ("192.168.1.2", "db-*"),
        ("192.168.1.0/24", "db"),
        ("192.168.1.0/24", "db-*-*"),
        ("fe80::/16", "db@-*"),
        ("fe80::1", "db@foo"),
        ("fe80::/16%eth1", "i" * 210 + "*"),
        ("10.0.0.0/33", "x-*"),
        ("", "x"),
    ],
)
def test_client_maps_that_are_wrong(pattern: str, identity: str) -> None:
    with pytest.raises(ScalarError):
        ClientPattern.parse(pattern).check_identity(identity)
