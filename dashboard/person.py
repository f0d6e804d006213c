"""Whose request it is that is being answered."""

from contextvars import ContextVar

from moodwire.access import LOCAL, Person, Role

_person: ContextVar[Person] = ContextVar("person", default=LOCAL)
REFUSED = "You may look, and not change anything: ask for a token of the role analyst."


def current() -> Person:
    return _person.get()


def may(role: Role) -> bool:
    return current().may(role)


def is_now(person: Person) -> None:
    """For the rest of this request."""
    _person.set(person)


def name_or(typed: str | None) -> str:
    """Who does something: whoever is logged in, else the name that was typed."""
    return current().name or (typed or "").strip()
