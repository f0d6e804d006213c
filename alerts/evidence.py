"""What an alert says beside its figures: the words that mark its stories, and what would end it. Pure."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from moodwire.settings import AnyRule, ArticleRule, PickupRule, Rule, ScoreRule, ShareRule, SilenceRule

MOST_WORDS = 6
LEAST_STORIES = 2  # that hold a word
LEAST_Z = 1.0
PRIOR = 0.5  # stories' weight of the prior, a word
_WORD = re.compile(r"[^\W\d_][\w'’-]{3,}")


def telling_words(titles: Sequence[str], earlier: Sequence[str]) -> tuple[str, ...]:
    """The words that mark these titles against earlier ones, the most marked first.

    By log-odds with a Dirichlet prior (Monroe, Colaresi and Quinn, 2008), a word counted once a title. What most
    earlier titles hold, as a company's name or common words, marks nothing.
    """
    here, before = _counts(titles), _counts(earlier)
    marked = []
    for word, count in here.items():
        if count < LEAST_STORIES:
            continue
        other = before[word]
        odds = _log_odds(count, len(titles)) - _log_odds(other, len(earlier))
        z = odds / math.sqrt(1 / (count + PRIOR) + 1 / (other + PRIOR))
        if z >= LEAST_Z:
            marked.append((-z, word))
    return tuple(word for _, word in sorted(marked)[:MOST_WORDS])


def ends_when(rule: AnyRule) -> str:
    """What would end an incident of this rule."""
    quiet = f"for {rule.cooldown_s / 60:g} min"
    if isinstance(rule, Rule):
        return f"the count of negative stories is no longer strange {quiet}"
    if isinstance(rule, SilenceRule):
        return f"it has been silent no longer {quiet}"
    span = f"the last {rule.window_s / 60:g} min"
    match rule:
        case ScoreRule():
            few = f"or they are fewer than {rule.minimum_stories}, {quiet}"
            return f"the mean score of {span}'s stories is {rule.below:g} or above, {few}"
        case ShareRule():
            few = f"or they are fewer than {rule.minimum_stories}, {quiet}"
            return f"at most {rule.above:.0%} of {span}'s stories are negative, {few}"
        case ArticleRule():
            return f"no such article came within {span} {quiet}"
        case PickupRule():
            return f"no story was carried by {rule.sources} sources within {span} {quiet}"


def _counts(titles: Iterable[str]) -> Counter[str]:
    return Counter(word for title in titles for word in {found.lower() for found in _WORD.findall(title)})


def _log_odds(count: int, of: int) -> float:
    return math.log((count + PRIOR) / (of - count + PRIOR))
