"""What a backtest found, as the alarms tell it and the pages show it."""

from datetime import datetime

import msgspec


class TrialAlarm(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One incident that a rule would have had, as it is set."""

    rule: str
    series: str
    at: datetime
    until: datetime | None  # None: still open at the end
    reason: str


class TrialSetting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rule at one number of false alarms a week; a plain rule as it is."""

    rule: str
    per_week: float | None  # plain rules have no such setting
    own: bool  # as the rule is set
    alarms: int
    weekly: float
    series: tuple[tuple[str, int], ...]  # with how many alarms; the most first


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    start: datetime
    end: datetime
    stories: int
    settings: tuple[TrialSetting, ...]
    alarms: tuple[TrialAlarm, ...]  # the newest, of the rules as they are set
