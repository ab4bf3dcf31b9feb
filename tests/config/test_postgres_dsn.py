"""Connection strings of PostgreSQL, as zrepl's client reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.postgres_dsn import PostgresDsn
from zrepl_trio.config.scalars import ScalarError


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("host=/run/postgresql user=backup", {"host": "/run/postgresql", "user": "backup"}),
        ("  host = h   port =5433 ", {"host": "h", "port": "5433"}),
        (r"password='two words' user=a\ b", {"password": "two words", "user": "a b"}),
        (r"password='it\'s \\ there'", {"password": r"it's \ there"}),
        ("password='' host=h", {"host": "h"}),
        ("options='-c search_path=x'", {"options": "-c search_path=x"}),
        ("", {}),
        ("postgres://h", {"host": "h"}),
        (
            "postgresql://u:p%40ss%2Fw@db.example.com:5433/name",
            {
                "user": "u",
                "password": "p@ss/w",
                "host": "db.example.com",
                "port": "5433",
                "dbname": "name",
            },
        ),
        ("postgres://u@[::1]:1/", {"user": "u", "host": "::1", "port": "1"}),
        (
            "postgres:///db?host=%2Frun%2Fpostgresql&sslmode=disable",
            {"dbname": "db", "host": "/run/postgresql", "sslmode": "disable"},
        ),
        ("postgres://h?user=a+b", {"host": "h", "user": "a b"}),
    ],
)
def test_both_forms_are_read(text: str, parameters: dict[str, str]) -> None:
    assert PostgresDsn.parse(text).parameters == parameters


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("host", "from character 1 on"),
        ("host=h secret word", "from character 7 on"),
        ("password='secret", "from character 1 on"),
        ("host=h search_path=secret", "the parameter search_path is not known"),
        ("host=h sslinline=true", "the parameter sslinline is not known"),
        ("host=h s3cret!=x", "a parameter is not known"),
        ("host=h port=0", "port is not"),
        ("host=h port=secret", "port is not"),
        ("host=a,b", "host is a list"),
        ("host=secret..b", "the host cannot be looked up"),
        ("postgres://.secret/", "the host cannot be looked up"),
        ("host=h sslmode=secret", "sslmode has an unknown value"),
        ("host=h connect_timeout=1s", "connect_timeout is not"),
        ("postgres://u:secret#word@h/", "%23"),
        ("postgres://u:p@h:secret/", "not a URL"),
        ("postgres://h/db?secret", "no `name=value` pairs"),
        ("postgres://h/db?search_path=secret", "the parameter search_path"),
    ],
)
def test_what_is_wrong_is_told_without_a_value(text: str, says: str) -> None:
    with pytest.raises(ScalarError) as caught:
        PostgresDsn.parse(text)
    told = f"{caught.value.message} {caught.value.accepted}"
    assert says in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("text", "environ", "told"),
    [
        ("user=u", {}, {"user": "u", "host": "localhost", "sslmode": "require"}),
        ("host=/run", {}, {"host": "/run", "sslmode": "require"}),
        ("", {"PGHOST": "h", "PGSSLMODE": "disable"}, {"host": "h"}),
        ("", {"PGHOSTADDR": "::1"}, {"sslmode": "require"}),
        ("host=h sslmode=prefer connect_timeout=3", {}, {"host": "h", "sslmode": "prefer"}),
    ],
)
def test_what_is_left_out_is_as_in_zrepl(
    text: str, environ: dict[str, str], told: dict[str, str]
) -> None:
    ours = {"fallback_application_name": "zrepl-trio", "gssencmode": "disable"}
    assert PostgresDsn.parse(text).connection(environ) == {**told, **ours}


def test_a_limit_of_its_own() -> None:
    assert PostgresDsn.parse("connect_timeout=3").connect_timeout_s == 3
    assert PostgresDsn.parse("connect_timeout=0").connect_timeout_s is None


def test_it_shows_its_place_and_no_password() -> None:
    dsn = PostgresDsn.parse("host=h port=1 password=secret")
    assert str(dsn) == "h:1"
    assert "secret" not in repr(dsn)


@given(st.text() | st.text(st.sampled_from("postgres://[@:/?#%'=& a\\\t0é")))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        dsn = PostgresDsn.parse(text)
    except ScalarError:
        return
    assert PostgresDsn.parse(dsn.text) == dsn
