"""Who may do what: roles, tokens and sessions as text, and what a request may do. Pure."""

import hashlib
import secrets
from collections import OrderedDict
from typing import Literal, NamedTuple, get_args

Role = Literal["viewer", "analyst", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
PREFIX = "mw_"


class Person(NamedTuple):
    """Whose request it is."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether this is of that role, or above it."""
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL = Person("", "admin")  # who sits at the machine where nobody is asked to log in; they say their name


def new_secret(prefix: str = PREFIX) -> str:
    """256 random bits as text: nothing is gained by trying."""
    return prefix + secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    """As the store keeps it. A secret of 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Bucket:
    """So many at once, and so many a second after; for each of the askers of late."""

    HELD = 10_000  # askers

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # asker: what is left, when

    def wait_s(self, asker: str, now_s: float, cost: float = 1.0) -> float:
        """Takes one, if there is one: 0. Else the seconds until there will be. cost 0: only looks."""
        left, at = self._levels.get(asker, (self._burst, now_s))
        left = min(self._burst, left + max(now_s - at, 0.0) * self._per_s)
        wait = 0.0 if left >= max(cost, 1.0) else (max(cost, 1.0) - left) / self._per_s
        if cost:
            self._levels[asker] = (left - cost if wait == 0.0 else left, now_s)
            self._levels.move_to_end(asker)
            if len(self._levels) > self.HELD:
                self._levels.popitem(last=False)
        return wait
