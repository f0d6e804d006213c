"""The GPU's engine, on the CPU: it agrees with the CPU's, and lives with too little memory."""

import logging

import numpy as np
import pytest
import torch

from classifier import torch_forward, weights
from classifier.engine import WEIGHTS, Engine, open_engine
from classifier.model_engine import ModelEngine
from classifier.pieces import Batch
from classifier.torch_forward import TorchForward
from moodwire.errors import ModelError

TEXTS = [
    f"{who} {what}{where}"
    for who in ("Acme", "The bank", "Oil", "Shares of Globex", "The Fed", "A small biotech company")
    for what in ("falls sharply", "beats estimates", "holds its meeting", "is sued", "raises guidance", "cuts 200 jobs")
    for where in ("", " after the regulator's report", " in early trading on Monday, its best day of the year so far")
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_engine("torch")


def test_it_agrees_with_the_cpu_s_engine(engine: Engine) -> None:
    spans = [[(0, 4)]] * len(TEXTS)
    ours, theirs = (e.score(TEXTS, spans) for e in (engine, open_engine("openvino", threads=2)))
    for part in ("sentiment", "topics", "entities", "names"):
        one, other = (np.array([getattr(scores, part) for scores in found]) for found in (ours, theirs))
        apart = np.abs(one - other)
        assert apart.mean() < 0.005
        assert np.quantile(apart, 0.99) < 0.02


def test_too_little_memory_halves_the_batches_and_warns(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(engine, ModelEngine)
    small = ModelEngine(WEIGHTS, weights.load(WEIGHTS), TorchForward(weights.load(WEIGHTS), "cpu"))
    run = TorchForward._run

    def tight(self: TorchForward, batch: Batch) -> torch.Tensor:
        if batch.ids.size > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, batch)

    spans = [[(0, 4)] if n % 2 else [] for n in range(len(TEXTS))]
    expected = engine.score(TEXTS, spans)
    monkeypatch.setattr(TorchForward, "_run", tight)
    with caplog.at_level(logging.WARNING):
        found = small.score(TEXTS, spans)
    assert "batches are halved" in caplog.text
    assert small.forward.budget < torch_forward.BUDGET
    for one, other in zip(found, expected, strict=True):
        assert one.sentiment == pytest.approx(other.sentiment, abs=0.01)
        assert len(one.entities) == len(other.entities)
    monkeypatch.setattr(TorchForward, "_run", lambda self, batch: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    with pytest.raises(ModelError, match="does not hold one text"):
        small.score(["a"], [[]])
