"""The plain rules: a score, a share, an article, a story carried widely, a silent source. No clock, no store."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from alerts.detect import Verdict
from alerts.held import Held
from alerts.incidents import Incident, advance
from alerts.watch import Change
from moodwire.records import WINDOW_S
from moodwire.settings import AnyPlainRule, AnyStoryRule, ArticleRule, PickupRule, ScoreRule, ShareRule, SilenceRule


class Story(NamedTuple):
    """A fresh story of a series."""

    story_id: str
    start_s: int  # of its 60 s window, by publication
    label: int  # -1 negative, 0 neutral, 1 positive
    score: float
    sources: int  # that carried it
    of_topic: bool = False  # whether it is one of the rule's topic


class Found(NamedTuple):
    change: Change
    story_ids: frozenset[str] | None  # the stories that speak for it; None: the negative ones


Ask = Callable[[AnyStoryRule, str, int, int], Sequence[Story]]  # stories of a series that start in [since, until)


def judge(rule: AnyStoryRule, stories: Sequence[Story], now_s: int) -> tuple[Verdict, frozenset[str] | None]:
    """Whether the rule holds for the stories of the last `window_s`, and which of them speak for it."""
    held = [story for story in stories if now_s - round(rule.window_s) <= story.start_s < now_s]
    negative = sum(story.label == -1 for story in held)
    span = f"in {rule.window_s / 60:g} min"
    speak: frozenset[str] | None = None
    match rule:
        case ScoreRule() | ShareRule() if len(held) < rule.minimum_stories:
            holds, observed, reason = False, negative, f"{len(held)} stories {span}, fewer than {rule.minimum_stories}"
        case ScoreRule():
            mean = sum(story.score for story in held) / len(held)
            holds, observed = mean < rule.below, negative
            reason = f"mean score {mean:+.2f} of {len(held)} stories {span}; the limit is {rule.below:+.2f}"
        case ShareRule():
            share = negative / len(held)
            holds, observed = share > rule.above, negative
            reason = (
                f"{negative} of {len(held)} stories {span} are negative ({share:.0%}); the limit is {rule.above:.0%}"
            )
        case ArticleRule():
            speak = frozenset(story.story_id for story in held if story.of_topic)
            holds, observed = bool(speak), len(speak)
            reason = f"{observed} stories of topic {rule.topic} {span}"
        case PickupRule():
            most = max((story.sources for story in held), default=0)
            holds, observed = most >= rule.sources, most
            speak = frozenset(story.story_id for story in held if story.sources >= rule.sources)
            reason = f"one story carried by {most} sources {span}; the limit is {rule.sources}"
    return Verdict(holds, holds, observed, 0.0, 0.0, reason), speak


class PlainWatch(Held[AnyPlainRule]):
    """Which series changed, and the plain rules' incidents; in the manner of `Watch`. Times in seconds since 1970."""

    def __init__(self, rules: Iterable[AnyPlainRule]) -> None:
        super().__init__(rules)
        self._changed: dict[str, None] = {}
        self._restored = False  # and no tick since
        self.last_s: int | None = None

    def restore(self, last_s: int, incidents: Iterable[tuple[str, str, Incident]]) -> None:
        """Go on from a tick."""
        self.last_s, self._restored = last_s, True
        for name, series, incident in incidents:
            if name in self._rules:
                self._incidents[name, series] = incident

    def take(self, series: str) -> None:
        """One of its windows changed."""
        if self._applying(series):
            self._changed[series] = None

    def tick(self, now_s: int, ask: Ask, silent: Mapping[str, str]) -> list[Found]:
        """Look at what changed and at what is open; a tick that was looked at before gives nothing.

        silent: by series of a source, why it counts as silent.
        """
        if self.last_s is not None and now_s <= self.last_s:
            if self._restored:
                self._changed.clear()  # read again: it was looked at before the restart
            return []
        before_s, self.last_s, self._restored = self.last_s or now_s, now_s, False
        looks: defaultdict[tuple[str, str], None] = defaultdict()
        for key, incident in self._incidents.items():
            if incident.alive:
                looks[key] = None
        for series in (*self._changed, *silent):
            looks.update({(rule.name, series): None for rule in self._applying(series)})
        found: list[Found] = []
        for name, series in looks:
            rule = self._rules[name]
            if isinstance(rule, SilenceRule):
                found += self._follow(rule, series, [(now_s, _heard(silent.get(series, "")), frozenset())])
            else:
                found += self._follow(rule, series, self._judged(rule, series, before_s, now_s, ask))
        self._changed.clear()
        return found

    def _judged(
        self, rule: AnyStoryRule, series: str, before_s: int, now_s: int, ask: Ask
    ) -> Iterator[tuple[int, Verdict, frozenset[str] | None]]:
        window_s = round(rule.window_s)
        known = self._incidents.get((rule.name, series))
        alive = known is not None and known.alive
        stories = ask(rule, series, (before_s if alive else now_s) - window_s - WINDOW_S, now_s)
        steps = {now_s}
        if alive:
            # It ends as stories leave the window, however far apart the ticks are.
            steps |= {at for story in stories if before_s < (at := story.start_s + window_s + 1) <= now_s}
        for at_s in sorted(steps):
            yield at_s, *judge(rule, stories, at_s)

    def _follow(
        self, rule: AnyPlainRule, series: str, verdicts: Iterable[tuple[int, Verdict, frozenset[str] | None]]
    ) -> list[Found]:
        found: list[Found] = []
        for at_s, verdict, speak in verdicts:
            previous = self._incidents.get((rule.name, series))
            step = advance(previous, verdict, rule, at_s)
            if step.incident is None:
                self._incidents.pop((rule.name, series), None)
                continue
            self._incidents[rule.name, series] = step.incident
            if step.changed:
                found.append(Found(Change(rule, series, step, verdict, previous), speak))
            if step.changed == "resolved":
                break
        return found


def _heard(silence: str) -> Verdict:
    return Verdict(bool(silence), bool(silence), 0, 0.0, 0.0, silence or "news comes again")
