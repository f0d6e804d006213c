"""Roles, buckets, tokens and sessions."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodwire.access import Bucket, Person
from moodwire.errors import BadInput
from moodwire.store import access, queries
from moodwire.store.db import Store
from tests.helpers import STORES, T0, after


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store = Store(STORES[request.param](tmp_path))
    store.upgrade()
    return store


def test_a_role_may_what_those_below_it_may() -> None:
    assert [
        [Person("", role).may(other) for other in ("viewer", "analyst", "admin")] for role in ("viewer", "admin")
    ] == [
        [True, False, False],
        [True, True, True],
    ]


@given(st.lists(st.floats(0, 20), max_size=60))
def test_a_bucket_never_gives_more_than_it_says(gaps: list[float]) -> None:
    bucket, now, given_at = Bucket(5, 0.5), 0.0, []
    for gap in gaps:
        now += gap
        wait = bucket.wait_s("a", now)
        if wait == 0.0:
            given_at.append(now)
        else:
            assert bucket.wait_s("a", now + wait + 1e-6, 0.0) == 0.0, "after the wait there is one"
    for at, first in enumerate(given_at):
        for n, last in enumerate(given_at[at:], 1):
            assert n <= 5 + (last - first) * 0.5 + 1e-6
    assert bucket.wait_s("b", now) == 0.0, "each has its own"


def test_a_token_holds_until_it_is_over_or_revoked(store: Store) -> None:
    secret = access.make_token(store, "ada", "analyst", "root", T0, after(3600))
    assert access.by_token(store, secret, after(1)) == Person("ada", "analyst")
    assert access.by_token(store, secret, after(3600)) is None
    assert access.by_token(store, secret + "x", after(1)) is None
    cookie = access.begin_session(store, secret, after(1), "127.0.0.1")
    assert cookie
    assert access.by_session(store, cookie, after(2)) == Person("ada", "analyst")
    assert access.by_session(store, secret, after(2)) is None, "a token is no cookie"
    assert access.by_session(store, cookie, after(3600)) is None, "a session ends with its token"
    assert access.revoke_token(store, "ada", "root", after(5))
    assert access.by_token(store, secret, after(6)) is None
    assert access.by_session(store, cookie, after(6)) is None
    assert not access.revoke_token(store, "ada", "root", after(7))
    assert not access.any_token(store, after(7))
    assert list(queries.trail(store, 10)["what"]) == ["revoke token", "log in", "make token"]


def test_a_session_ends_by_itself_and_by_its_owner(store: Store) -> None:
    secret = access.make_token(store, "ada", "viewer", "root", T0)
    one, two = (access.begin_session(store, secret, T0, "") for _ in range(2))
    assert one
    assert two
    assert one != two
    access.end_session(store, one, "ada", after(1))
    assert access.by_session(store, one, after(1)) is None
    assert access.by_session(store, two, T0 + access.SESSION - timedelta(seconds=1))
    assert access.by_session(store, two, T0 + access.SESSION) is None


def test_a_name_has_one_token_at_a_time(store: Store) -> None:
    access.make_token(store, "ada", "viewer", "root", T0, after(60))
    with pytest.raises(BadInput, match="revoke it first"):
        access.make_token(store, "ada", "admin", "root", after(1))
    access.make_token(store, "ada", "admin", "root", after(61))
    for name in ("", "  ", "a\nb", "x" * 61):
        with pytest.raises(BadInput, match="is no name"):
            access.make_token(store, name, "viewer", "root", T0)


def test_the_store_holds_no_secret(store: Store) -> None:
    secret = access.make_token(store, "ada", "viewer", "root", T0)
    cookie = access.begin_session(store, secret, T0, "")
    with store.read() as connection:
        text = "".join(
            str(tuple(row))
            for table in ("tokens", "sessions", "audit")
            for row in connection.exec_driver_sql(f"select * from {table}")
        )
    assert secret not in text
    assert cookie
    assert cookie not in text
