"""Whether a span is a name, from the tags of its tokens; the bag beside the encoder."""

import numpy as np
import pytest

from classifier import weights
from classifier.engine import WEIGHTS
from classifier.labels import BEGIN, INSIDE, OUTSIDE
from classifier.model_engine import ModelEngine, are_names
from classifier.openvino_forward import OpenVinoForward, precision

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


def test_bf16_is_taken_where_matrix_tiles_compute_it() -> None:
    tiles, without = {"avx2", "avx512_bf16", "amx_bf16"}, {"avx2", "avx512_bf16"}
    assert precision(("FP32", "BF16"), tiles) == "bf16"
    assert precision(("FP32", "BF16"), without) == "f32", "AVX-512's own bf16 is slower than f32"
    assert precision(("FP32",), tiles) == "f32", "the runtime is held to less than the CPU has"
