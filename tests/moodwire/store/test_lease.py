"""One holder at a time: who gets a lease, and what becomes of the work of one who lost it."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from moodwire.errors import LeaseLost
from moodwire.records import EPOCH
from moodwire.store import schema
from moodwire.store.db import Store, fact, set_fact
from moodwire.store.lease import Hold, Lease, Stop, decide, has_ended, held, this_process
from tests.helpers import T0, after

HELD = Hold("one", "1/1", 3, after(10))


@pytest.mark.parametrize(
    ("hold", "me", "ended", "take", "reason"),
    [
        (Hold("", "", 0, EPOCH), "one", False, True, "nobody had it before"),
        (HELD, "two", False, False, "one has it, for 10 s more and then again"),
        (HELD, "two", True, False, "one has it, for 10 s more and then again"),
        (HELD, "one", True, True, "it was this instance's before it was started again"),
        (HELD, "one", False, False, "one has it, for 10 s more and then again"),
        (HELD._replace(expires_at=after(-5)), "two", False, True, "that of one ran out 5 s ago"),
        (HELD._replace(expires_at=T0), "one", False, True, "that of one ran out 0 s ago"),
    ],
)
def test_who_may_take_a_lease(hold: Hold, me: str, ended: bool, take: bool, reason: str) -> None:
    assert decide(hold, me, ended, T0) == (take, reason)


def test_a_process_runs_until_it_has_ended() -> None:
    assert not has_ended(this_process())
    pid, _, began = this_process().partition("/")
    assert has_ended(f"{pid}/{int(began) - 100}"), "another process that had the same number"
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert has_ended(f"{child}/{began}")


def lease(store: Store, holder: str, lease_s: float = 1000.0) -> Lease:
    return Lease(store, "trends", holder, lease_s)


def change(store: Store, **values: object) -> None:
    with store.write() as connection:
        connection.execute(sa.update(schema.leases).values(**values))


def beside(store: Store) -> Store:
    """The same store, as another process has it."""
    return Store(store.url.render_as_string(hide_password=False))


def test_one_has_it_until_it_lets_go(store: Store) -> None:
    one, two = lease(store, "one"), lease(store, "two")
    assert one.take().take
    assert one.is_sure()
    refused = two.take()
    assert not refused.take
    assert refused.reason.startswith("one has it")
    assert not two.is_sure()
    one.release()
    assert not one.is_sure()
    assert two.take().take


def test_the_same_instance_gets_it_back_at_once_if_its_process_is_gone(store: Store) -> None:
    assert lease(store, "one").take().take
    assert not lease(store, "one").take().take, "it runs still"
    change(store, process="999999999/1")
    assert not lease(store, "two").take().take
    assert lease(store, "one").take().take


def test_one_who_lost_it_keeps_nothing_more(store: Store) -> None:
    mine, other = beside(store), beside(store)
    one, two = lease(mine, "one"), lease(other, "two")
    assert one.take().take
    with pytest.raises(LeaseLost, match="one works on stage trends no more"), held(one, mine, Stop()):
        change(store, expires_at=EPOCH)
        assert two.take().take
        with pytest.raises(LeaseLost), mine.write() as connection:
            set_fact(connection, "work", "one's")
        with pytest.raises(LeaseLost):
            one.renew()
        with store.read() as connection:
            assert fact(connection, "work", "none") == "none"
        one._until_s = 0.0  # so long was it paused
    with held(two, other, Stop()), other.write() as connection:
        set_fact(connection, "work", "two's")
    with store.read() as connection:
        assert fact(connection, "work") == "two's"
    mine.close()
    other.close()


def test_it_is_not_taken_while_the_one_before_writes(store: Store) -> None:
    mine, other = beside(store), beside(store)
    one, two = lease(mine, "one"), lease(other, "two")
    one.take()
    change(store, expires_at=EPOCH)
    with held(one, mine, Stop()), ThreadPoolExecutor(1) as pool:
        with mine.write() as connection:
            taken = pool.submit(two.take)
            with pytest.raises(TimeoutError):
                taken.result(0.3)
            set_fact(connection, "work", "one's")
        assert taken.result(20).take
        with pytest.raises(LeaseLost), mine.write():
            pass
    with store.read() as connection:
        assert fact(connection, "work") == "one's"
    mine.close()
    other.close()


def test_of_many_who_want_it_one_gets_it(store: Store) -> None:
    stores = [beside(store) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda at: lease(stores[at], f"i{at}").take(), range(8)))
    assert sum(verdict.take for verdict in verdicts) == 1
    for one in stores:
        one.close()


def test_a_lease_that_is_renewed_lasts(store: Store) -> None:
    one = lease(store, "one", 60.0)
    one.take()
    change(store, expires_at=store.now() + timedelta(seconds=1))
    one.renew()
    with store.read() as connection:
        expires_at = connection.execute(sa.select(schema.leases.c.expires_at)).scalar_one()
    assert expires_at - store.now() > timedelta(seconds=50)


def test_the_stop_is_set_when_the_lease_is_not_sure(store: Store) -> None:
    stop, one = Stop(), lease(store, "one", 0.0)
    one.take()
    assert not stop.is_set()
    with pytest.raises(LeaseLost, match="could not be renewed for 0 s"), held(one, store, stop):
        assert stop.is_set()
    assert not stop.is_set()
    assert store.fence is None
