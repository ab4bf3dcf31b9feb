"""DSNs of MySQL, as zrepl's client reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.mysql_dsn import MysqlDsn, Tls
from zrepl_trio.config.scalars import ScalarError


def parts(text: str) -> tuple[str, str, str, str]:
    dsn = MysqlDsn.parse(text)
    return dsn.user, dsn.password, dsn.place, dsn.database


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("root@tcp(localhost)/", ("root", "", "localhost:3306", "")),
        ("u:pw@tcp(db.example.com:3307)/name", ("u", "pw", "db.example.com:3307", "name")),
        ("u:pw@unix(/run/mysqld/mysqld.sock)/", ("u", "pw", "/run/mysqld/mysqld.sock", "")),
        ("u:p@ss:w/rd@tcp(h)/", ("u", "p@ss:w/rd", "h:3306", "")),
        ("u:pw@tcp([fe80::1%25eth0]:80)/", ("u", "pw", "[fe80::1%25eth0]:80", "")),
        ("u@tcp6([::1])/a%2Fb", ("u", "", "[::1]:3306", "a/b")),
        ("u@/db", ("u", "", "127.0.0.1:3306", "db")),
        ("u@unix/", ("u", "", "/tmp/mysql.sock", "")),
        ("tcp(:3307)/", ("", "", "localhost:3307", "")),
        ("/", ("", "", "127.0.0.1:3306", "")),
        ("u:@/", ("u", "", "127.0.0.1:3306", "")),
    ],
)
def test_the_parts_are_read(text: str, expected: tuple[str, str, str, str]) -> None:
    assert parts(text) == expected


def test_the_parameters_are_read() -> None:
    dsn = MysqlDsn.parse(
        "u@/?tls=skip-verify&timeout=5s&readTimeout=1m&writeTimeout=20s&charset=utf8mb4,utf8"
        "&collation=utf8mb4_bin&allowCleartextPasswords=true&allowOldPasswords=0"
    )
    assert (dsn.tls, dsn.connect_s, dsn.io_s) == (Tls.SKIP_VERIFY, 5, 20)
    assert (dsn.charset, dsn.collation) == ("utf8mb4", "utf8mb4_bin")
    assert (dsn.cleartext, dsn.old_passwords) == (True, False)
    plain = MysqlDsn.parse("u@/")
    assert (plain.tls, plain.connect_s, plain.io_s) == (Tls.OFF, None, None)
    assert not plain.cleartext


@pytest.mark.parametrize(
    ("value", "tls"),
    [("true", Tls.ON), ("1", Tls.ON), ("false", Tls.OFF), ("Preferred", Tls.PREFERRED)],
)
def test_every_kind_of_tls(value: str, tls: Tls) -> None:
    assert MysqlDsn.parse(f"u@/?tls={value}").tls is tls


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("root:secret@tcp(localhost)", "no / before"),
        ("root:secret@tcp(localhost/", "does not end with )"),
        ("root@secret(localhost)/", "the protocol is none"),
        ("root@tcp(secret:h:1)/", "not HOST:PORT"),
        ("root@tcp(h:secret)/", "port is not a number"),
        ("root@tcp(secret..b:3306)/", "the host cannot be looked up"),
        ("root@tcp(h:0)/", "port is not a number"),
        ("root@/?parseTime=secret", "the parameter parseTime is not known"),
        ("root@/?secret1!=x", "a parameter is not known"),
        ("root@/?secret", "no `name=value` pairs"),
        ("root@/?tls=secret", "tls has an unknown value"),
        ("root@/?timeout=secret", "timeout is not a duration"),
        ("root@/?readTimeout=-1s", "readTimeout is not a duration"),
        ("root@/?charset=secret'", "charset is not a name"),
        ("root@/?allowCleartextPasswords=secret", "neither true nor false"),
    ],
)
def test_what_is_wrong_is_told_without_a_value(text: str, says: str) -> None:
    with pytest.raises(ScalarError) as caught:
        MysqlDsn.parse(text)
    told = f"{caught.value.message} {caught.value.accepted}"
    assert says in told
    assert "secret" not in told


def test_no_repr_shows_a_password() -> None:
    dsn = MysqlDsn.parse("u:secret@tcp(h)/")
    assert "secret" not in f"{dsn!r} {dsn}"


@given(st.text() | st.text(st.sampled_from("u@tcp([:)]/?&=%,unix0é '")))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        dsn = MysqlDsn.parse(text)
    except ScalarError:
        return
    assert MysqlDsn.parse(dsn.text) == dsn
