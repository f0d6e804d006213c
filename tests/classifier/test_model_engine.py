"""Whether a span is a name, from the tags of its tokens."""

import numpy as np
import pytest

from classifier.labels import BEGIN, INSIDE, OUTSIDE
from classifier.model_engine import are_names

LIKELY, REST = 0.94, 0.03  # of the tag that is meant, and of each other


def tags(*meant: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.log(np.where(np.eye(3)[list(meant)] == 1, LIKELY, REST)).astype(np.float32)


def test_a_name_is_begun_gone_on_with_and_ended() -> None:
    given = tags(BEGIN, INSIDE, OUTSIDE, *(BEGIN, INSIDE), *(INSIDE, OUTSIDE), *(BEGIN, BEGIN))
    whole, unfinished, later_part, beside_another = are_names(given, [2, 1, 1, 1])
    ended = LIKELY + REST  # by a token outside, or by the next name's first
    assert whole == pytest.approx(LIKELY**2 * ended, rel=1e-4)
    assert unfinished == pytest.approx(LIKELY * 2 * REST, rel=1e-4)
    assert later_part == pytest.approx(REST * ended, rel=1e-4)
    assert beside_another == pytest.approx(LIKELY * ended, rel=1e-4)


def test_no_spans() -> None:
    assert are_names(np.empty((0, 3), np.float32), []) == []
