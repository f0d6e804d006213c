"""Rules and the incidents they brought forth, as a watch holds them between ticks."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from alerts.detect import matches
from alerts.incidents import Incident
from moodwire.settings import AnyRule

R = TypeVar("R", bound=AnyRule)


class Held(Generic[R]):
    def __init__(self, rules: Iterable[R]) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._rules_of: dict[str, tuple[R, ...]] = {}
        self._incidents: dict[tuple[str, str], Incident] = {}  # by rule and series

    def open_incidents(self) -> list[tuple[str, str, Incident]]:
        """Rule, series and incident of each that is open or pending."""
        return [(rule, series, known) for (rule, series), known in self._incidents.items() if known.alive]

    def incident(self, rule: str, series: str) -> Incident | None:
        return self._incidents.get((rule, series))

    def put_incident(self, rule: str, series: str, incident: Incident) -> None:
        """An open incident as someone left it, acknowledged."""
        self._incidents[rule, series] = incident

    def _applying(self, series: str) -> tuple[R, ...]:
        """The rules of a series."""
        if series not in self._rules_of:
            self._rules_of[series] = tuple(rule for rule in self._rules.values() if matches(series, rule.series))
        return self._rules_of[series]
