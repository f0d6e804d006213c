"""What the model tells apart, in the order of its outputs."""

from moodwire.labels import SENTIMENTS, TOPIC_NAMES, TOPICS

__all__ = ["BEGIN", "INSIDE", "NAME_TAGS", "OUTSIDE", "SENTIMENTS", "TOPICS", "TOPIC_NAMES"]

NAME_TAGS = OUTSIDE, BEGIN, INSIDE = range(3)  # of a token: in no entity's name, its first, a later one
