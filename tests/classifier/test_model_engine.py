"""Whether a span is a name, from the tags of its tokens; the bag beside the encoder."""

from collections.abc import Callable

import numpy as np
import pytest

from classifier import weights
from classifier.engine import WEIGHTS
from classifier.labels import BEGIN, INSIDE, OUTSIDE
from classifier.model_engine import ModelEngine, are_names
from classifier.openvino_forward import OpenVinoForward, quicker

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


def test_the_bags_logits_are_added_to_those_of_sentiment_and_topic() -> None:
    loaded = weights.load(WEIGHTS)
    forward = OpenVinoForward(loaded, 1)
    text, spans = "Acme falls after a profit warning", [(0, 4)]
    flat = {name: np.zeros_like(tensor) for name, tensor in loaded.tensors.items() if name.startswith("bag.")}
    for k, (sentiment, topic) in enumerate(((0, 4), (2, 19))):
        bias = flat["bag.bias"].copy()
        bias[[sentiment, 3 + topic]] = 1.0
        without, given = (
            ModelEngine(WEIGHTS, loaded._replace(tensors={**loaded.tensors, **flat, "bag.bias": known}), forward)
            for known in (flat["bag.bias"], bias)
        )
        (before,), (after,) = (engine.score([text], [spans]) for engine in (without, given))
        for p, q, at in ((before.sentiment, after.sentiment, sentiment), (before.topics, after.topics, topic)):
            raised = np.array(p)
            raised[at] *= np.e
            assert q == pytest.approx(raised / raised.sum(), abs=1e-5), k
        assert after.entities == before.entities


def test_the_quicker_precision_is_taken() -> None:
    now_s, passes = 0.0, ""

    def model(name: str, *took_s: float) -> Callable[[object], None]:
        left = iter(took_s)

        def run(_: object) -> None:
            nonlocal now_s, passes
            now_s += next(left)
            passes += name

        return run

    def asked(f32: tuple[float, ...], bf16: tuple[float, ...]) -> str:
        return quicker({"f32": model("f", *f32), "bf16": model("b", *bf16)}, lambda: now_s)

    assert asked((2, 2, 2, 2), (9, 1, 1, 1)) == "bf16", "the first pass prepares it"
    assert asked((9, 5, 1, 1), (9, 2, 2, 2)) == "f32", "something else held it up once"
    assert passes == "fbfbfbfb" * 2, "in turns"
    assert quicker({"f32": model("f")}) == "f32", "nothing to compare"
