"""Names and addresses by which a server is found, and by which a dump is known again in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from safepoint.backup.dumping import session_name
from safepoint.config import Application, Variables
from safepoint.config.releases import Release
from safepoint.django.address import LIBPQ, at_address, leading, leading_to_server, nowhere, part_variables
from safepoint.postgres.target import Target

HERE = Target("localhost", 6543, "shop", "admin", "a secret")


def test_a_server_has_another_address_elsewhere() -> None:
    assert HERE.at(None) == HERE
    there = HERE.at("db:5432")
    assert (there.host, there.port, there.dbname, there.password) == ("db", 5432, "shop", "a secret")
    assert there.url() == "postgresql://admin:a%20secret@db:5432/shop"


def test_an_ipv6_address_stands_in_brackets_where_a_port_follows() -> None:
    there = HERE.at("[::1]:5432")
    assert there.host == "::1"
    assert there.url().endswith("@[::1]:5432/shop")


NO_ADDRESSES = [
    "db",
    "db:",
    ":5432",
    "::1:5432",
    "db:port",
    "http://db:5432",
    "db:5432 ",
    "db:5432\n",
    "db:0",
    "db:65536",
]


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        Application(database_address=address)


@pytest.mark.parametrize("upstream", [*NO_ADDRESSES, "https://a:1", "a:1,b:2", "a,b:1", "unix//run/app.sock"])
def test_a_release_that_could_not_be_asked_at_its_address_is_refused(upstream: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        Release(version="1", start=("true",), stop=("true",), upstream=upstream)


IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}", fullmatch=True)


@given(IDS, IDS)
def test_the_sessions_of_different_dumps_have_different_names_that_postgresql_keeps_whole(one: str, other: str) -> None:
    assert len(session_name(one)) <= 63
    assert (session_name(one) == session_name(other)) == (one == other)


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("postgresql://shop:s%40crt@db1:5432/shop", "postgresql://shop:s%40crt@db2:6000/shop"),
        ("postgres://db1/shop?sslmode=require", "postgres://db2:6000/shop?sslmode=require"),
        ("postgresql://shop@/shop?host=/run/postgresql&port=5433", "postgresql://shop@db2:6000/shop"),
        ("psql://shop:p@[::1]:5432/shop?options=-c%20x%3Dy", "psql://shop:p@db2:6000/shop?options=-c%20x%3Dy"),
    ],
)
def test_the_application_s_url_is_led_to_another_server_with_all_else_as_it_is(url: str, there: str) -> None:
    assert at_address(url, "db2:6000") == there


PARTS = Application(variables=Variables(host="DB_HOST", port="DB_PORT", name="DB_NAME", user="PGUSER", password="PW"))


def test_an_application_is_led_by_parts_to_any_login_and_no_password_of_another_stays() -> None:
    shop = Target("::1", 5433, "shop", "safepoint_1", "s3cret")
    env, secrets = leading(PARTS, shop)
    assert env == {"DB_HOST": "::1", "DB_PORT": "5433", "DB_NAME": "shop", "PGUSER": "safepoint_1"}
    assert secrets == {"PW": "s3cret"}
    assert leading(PARTS, shop.login("postgres", None))[1] == {"PW": ""}


def test_to_another_server_it_is_led_by_the_parts_that_are_others_there() -> None:
    only_host = Application(variables=Variables(host="DB_HOST"))
    assert leading_to_server(PARTS, "db1:5432", "[::2]:6000") == ({"DB_HOST": "::2", "DB_PORT": "6000"}, {})
    assert leading_to_server(only_host, "db1:5432", "db2:5432") == ({"DB_HOST": "db2"}, {})
    assert leading_to_server(only_host, "db1:5432", "db2:6000") is None
    assert leading_to_server(Application(), "db1:5432", "db2:6000") is None


def test_variables_are_taken_for_what_their_names_say_and_tried_with_values_that_are_like_no_other() -> None:
    read = ("DB_HOST", "PGDATABASE", "RDS_DB_NAME", "RDS_HOSTNAME", "DB_USERNAME", "DATABASE_PASSWORD", "DB_PORT")
    parts = ("host", "name", "name", "host", "user", "password", "port")
    others = ("DATABASE_URL", "DB_PASSWORD_FILE", "REDIS_HOST", "DB_ENGINE", "EMAIL_PORT")
    found = part_variables((*read, *others))
    assert {name: found[name] for name in read} == dict(zip(read, parts, strict=True))
    assert not {*others} & {*found} and {*LIBPQ} < {*found}
    values = nowhere(found)
    assert len(set(values.values())) == len(found) and values["DB_PORT"].isdigit()
