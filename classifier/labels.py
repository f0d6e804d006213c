"""What the model tells apart, in the order of its outputs."""

from moodwire.labels import SENTIMENTS, TOPIC_NAMES, TOPICS

__all__ = ["SENTIMENTS", "TOPICS", "TOPIC_NAMES"]
