"""Leases: of some stages one works at a time, wherever the others wait.

A lease is a row: its holder, a number that grows each time it is taken, and when it runs out by the database's clock.
The holder renews it. Two things keep one who lost it, paused or cut off, from working beside the next:
- each of its write transactions looks at the number first (`Lease.check`), and whoever takes the lease waits until the
  transactions that saw the old number are over;
- its `Stop` reads as set as soon as another may have the lease, by a clock of its own that began earlier.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

import psutil
import sqlalchemy as sa

from moodwire.errors import LeaseLost, StoreError
from moodwire.records import EPOCH
from moodwire.store import schema
from moodwire.store.db import Store, clock, insert_absent, share_turns, take_turns

LEASE_S = 15.0  # after which a holder that is not heard of loses it
RENEW_S = 4.0
LOOK_S = 1.0  # how often one who waits looks
_SAME_S = 2.0  # a process began when it says, to this
_LOG = logging.getLogger("lease")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps


class Hold(NamedTuple):
    """A lease as the store has it."""

    holder: str
    process: str  # that took it, as in `this_process`
    number: int
    expires_at: datetime


class Verdict(NamedTuple):
    take: bool
    reason: str


def decide(held: Hold, me: str, ended: bool, now: datetime) -> Verdict:
    """Whether `me` may take a lease. ended: the process that holds it ran on this machine, and has ended."""
    if not held.holder:
        return Verdict(True, "nobody had it before")
    if held.expires_at <= now:
        quiet_s = (now - held.expires_at).total_seconds()
        return Verdict(True, f"that of {held.holder} ran out {quiet_s:.0f} s ago")
    if held.holder == me and ended:
        return Verdict(True, "it was this instance's before it was started again")
    left_s = (held.expires_at - now).total_seconds()
    return Verdict(False, f"{held.holder} has it, for {left_s:.0f} s more and then again")


def this_process() -> str:
    """This process, to tell whether it still runs: its number and when it began, in seconds since 1970."""
    return f"{os.getpid()}/{psutil.Process().create_time():.0f}"


def has_ended(process: str) -> bool:
    """Whether a process of this machine, written as by `this_process`, runs no more."""
    pid, _, began = process.partition("/")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(began)) > _SAME_S
    except psutil.NoSuchProcess:
        return True


class Stop(threading.Event):
    """A stage's stop. To one who holds a lease it is set, too, from when another may have that."""

    def __init__(self) -> None:
        super().__init__()
        self.lease: Lease | None = None

    def is_set(self) -> bool:
        return super().is_set() or (self.lease is not None and not self.lease.is_sure())


class Lease:
    """The lease of a name in a store, for one holder."""

    def __init__(self, store: Store, name: str, holder: str, lease_s: float) -> None:
        self._store = store
        self._name = name
        self._holder = holder
        self._lease_s = lease_s
        self._number = 0
        self._until_s = 0.0  # nobody else has it before

    def take(self) -> Verdict:
        """Take it if it is to be had. Raises StoreError."""
        asked_s = time.clock_gettime(_CLOCK)
        lease = schema.leases.c
        empty = {"name": self._name, "holder": "", "process": "", "number": 0, "expires_at": EPOCH}
        mine = sa.update(schema.leases).where(lease.name == self._name)
        with self._store.write() as connection:
            insert_absent(connection, schema.leases, [empty])
            query = sa.select(*(lease[name] for name in Hold._fields)).where(lease.name == self._name)
            held = Hold(*connection.execute(query).one())
            ended = held.holder == self._holder and has_ended(held.process)
            verdict = decide(held, self._holder, ended, clock(connection))
            if not verdict.take:
                return verdict
            # Those who write under the old number end first. Another may have been quicker meanwhile.
            take_turns(connection, self._turn)
            now = clock(connection)
            values = {
                "holder": self._holder,
                "process": this_process(),
                "number": held.number + 1,
                "expires_at": now + timedelta(seconds=self._lease_s),
            }
            taken = connection.execute(mine.where(lease.number == held.number).values(**values)).rowcount
            if not taken:
                return Verdict(False, "another was quicker")
        self._number = held.number + 1
        self._until_s = asked_s + self._lease_s
        return verdict

    def renew(self) -> None:
        """Raises LeaseLost where another took it, StoreError."""
        asked_s = time.clock_gettime(_CLOCK)
        lease = schema.leases.c
        mine = sa.update(schema.leases).where(lease.name == self._name, lease.number == self._number)
        with self._store.write() as connection:
            expires_at = clock(connection) + timedelta(seconds=self._lease_s)
            if not connection.execute(mine.values(expires_at=expires_at)).rowcount:
                raise self.lost()
        self._until_s = asked_s + self._lease_s

    def check(self, connection: sa.Connection) -> None:
        """At the begin of a transaction: until its end nobody else takes the lease. Raises LeaseLost."""
        share_turns(connection, self._turn)
        number = sa.select(schema.leases.c.number).where(schema.leases.c.name == self._name)
        if connection.execute(number).scalar() != self._number:
            raise self.lost()

    def release(self) -> None:
        """Let another have it at once; nothing where it is lost already."""
        lease = schema.leases.c
        mine = sa.update(schema.leases).where(lease.name == self._name, lease.number == self._number)
        with self._store.write() as connection:
            connection.execute(mine.values(expires_at=clock(connection)))
        self._until_s = 0.0

    def is_sure(self) -> bool:
        """Whether nobody else can have it yet."""
        return time.clock_gettime(_CLOCK) < self._until_s

    def lost(self) -> LeaseLost:
        return LeaseLost(
            f"{self._holder} works on stage {self._name} no more: another instance took it over, or it could not be "
            f"renewed for {self._lease_s:g} s; what was not kept is done there"
        )

    @property
    def _turn(self) -> str:
        return f"lease:{self._name}"


def wait(lease: Lease, stop: threading.Event, tell: Callable[[str], None]) -> bool:
    """Until the lease is taken; False if the stop came before. `tell` hears why it waits."""
    while not stop.is_set():
        verdict = lease.take()
        if verdict.take:
            _LOG.info("works: %s", verdict.reason)
            return True
        tell(verdict.reason)
        stop.wait(LOOK_S)
    return False


@contextmanager
def held(lease: Lease, store: Store, stop: Stop) -> Iterator[None]:
    """With a lease that was taken: it is renewed, and no write transaction of `store` is kept once it is lost.

    Raises LeaseLost at the end, where the work stopped because of that.
    """
    over = threading.Event()

    def renew() -> None:
        while not over.wait(RENEW_S):
            try:
                lease.renew()
            except LeaseLost as error:
                _LOG.error("%s", error)
                stop.set()
                return
            except StoreError as error:  # it may still be had in time
                _LOG.warning("the lease could not be renewed: %s", error)

    renewer = threading.Thread(target=renew, name="lease", daemon=True)
    store.fence, stop.lease = lease.check, lease
    renewer.start()
    try:
        yield
        if not lease.is_sure():
            raise lease.lost()
    finally:
        over.set()
        store.fence, stop.lease = None, None
        renewer.join(RENEW_S)
        if lease.is_sure():
            lease.release()
