"""The engine's seam: texts and entity spans in, probabilities out, in the order given."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from moodwire.errors import ModelError

Triple = tuple[float, float, float]  # P(negative), P(neutral), P(positive); sums to 1
Span = tuple[int, int]  # characters, start and end in the text as given
WEIGHTS = Path(__file__).parent / "weights"


class Scores(NamedTuple):
    """Probabilities of one text."""

    sentiment: Triple
    topics: tuple[float, ...]  # by classifier.labels.TOPICS; sums to 1
    entities: tuple[Triple, ...]  # one for each span given
    names: tuple[float, ...]  # for each span given, P(it is an entity's name, no more and no less)


class Engine(Protocol):
    model: str  # name@version+checksum

    def score(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Scores]:
        """Scores of each text, in order; `spans`: for each text, the entities whose sentiment is asked.

        Any text gives a defined result: an empty one, one of URLs only, one of a megabyte. So does any span: one that
        holds no text that is read has the sentiment of the whole text and is no name. Raises ValueError when the two
        differ in length.
        """


def open_engine(name: str, folder: Path = WEIGHTS, threads: int | None = None) -> Engine:
    """The engine by its name in the configuration: `auto` is `torch` where there is a GPU and PyTorch, else `openvino`.

    Raises ModelError where the weights are not sound, or PyTorch is asked for and not there.
    """
    if name == "dummy":
        from classifier.dummy_engine import DummyEngine

        return DummyEngine()
    if name not in {"auto", "openvino", "torch"}:
        raise ModelError(
            f"there is no engine {name!r}; model.engine in moodwire.toml takes auto, openvino, torch or dummy"
        )
    from classifier import weights
    from classifier.model_engine import Forward, ModelEngine

    forward: Forward
    loaded = weights.load(folder)
    if name == "torch" or (name == "auto" and gpu_is_there()):
        try:
            from classifier.torch_forward import TorchForward
        except ImportError as error:
            raise ModelError(f"the engine torch needs PyTorch ({error}): pip install 'moodwire[gpu]'") from error
        forward = TorchForward(loaded, "cuda" if gpu_is_there() else "cpu")
    else:
        from classifier.openvino_forward import OpenVinoForward

        forward = OpenVinoForward(loaded, threads)
    return ModelEngine(folder, loaded, forward)


def gpu_is_there() -> bool:
    if not _has_driver():
        return False  # PyTorch would say the same, and take 400 MB and some seconds for it
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _has_driver() -> bool:
    """Whether the library that comes with a driver is there: of NVIDIA, or AMD's for PyTorch built on ROCm."""
    for name in ("libcuda.so.1", "nvcuda.dll", "libamdhip64.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
