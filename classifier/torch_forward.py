"""The forward pass on a GPU, in PyTorch's bf16. Where there is no GPU it runs on the CPU, for the tests' comparison."""

import logging

import numpy as np
import torch

from classifier.model_engine import Logits
from classifier.network import from_tensors
from classifier.pieces import Batch
from classifier.weights import Weights
from moodwire.errors import ModelError

BUDGET = 32_768  # tokens of a batch

_log = logging.getLogger(__name__)


class TorchForward:
    """One host synchronisation a batch: copies to the device do not wait, and the results come back in one tensor."""

    def __init__(self, loaded: Weights, device: str = "cuda") -> None:
        self.budget = BUDGET
        self._device = torch.device(device)
        self._network = from_tensors(loaded.tensors).eval().to(self._device)
        self._network.encoder.set_attn_implementation("sdpa")
        self.precision = "bf16"

    def start(self, batch: Batch) -> list[tuple[torch.Tensor, int, int]]:
        """Results on their way, with how many of the batch's pieces and spans each holds."""
        try:
            return [(self._run(batch), len(batch.ids), len(batch.spans))]
        except torch.OutOfMemoryError as error:
            if len(batch.ids) == 1:
                raise ModelError(f"the device's memory does not hold one text: {error}; free some of it") from error
        self.budget = max(self.budget // 2, batch.ids.shape[1])
        _log.warning("out of device memory: batches are halved to %d tokens", self.budget)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return [part for half in _halves(batch) for part in self.start(half)]

    def finish(self, begun: list[tuple[torch.Tensor, int, int]]) -> Logits:
        parts = []
        for sent, texts, spans in begun:
            if self._device.type == "cuda":
                torch.cuda.current_stream().synchronize()
            of_texts, of_spans, of_tokens = np.split(sent.numpy(), [texts, texts + spans])
            parts.append(Logits(of_texts[:, :3], of_texts[:, 3:], of_spans[:, :3], of_tokens[:, :3]))
        return Logits(*(np.concatenate(several) for several in zip(*parts, strict=True)))

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _run(self, batch: Batch) -> torch.Tensor:
        """All logits in one tensor on the host, as soon as the stream is done.

        Rows of pieces, then of spans, then of the spans' tokens with the one behind each.
        """
        ids, mask = self._sent(torch.from_numpy(batch.ids).long()), self._sent(torch.from_numpy(batch.mask))
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            sentiment, topic, entity, name = self._network(ids, mask, batch.spans)
        width = ids.shape[1]
        at = [row * width + token for row, first, last in batch.spans for token in range(first, last + 1)]
        tokens = name.flatten(0, 1)[self._sent(torch.tensor(at, dtype=torch.long))]
        rows = torch.cat([sentiment, topic], 1)
        others = [torch.nn.functional.pad(part, (0, rows.shape[1] - part.shape[1])) for part in (entity, tokens)]
        found = torch.cat([rows, *others]).float()
        if self._device.type != "cuda":
            return found
        host = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        return host.copy_(found, non_blocking=True)

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)


def _halves(batch: Batch) -> list[Batch]:
    middle = len(batch.ids) // 2
    first = [span for span in batch.spans if span[0] < middle]
    second = [(row - middle, a, b) for row, a, b in batch.spans if row >= middle]
    return [
        Batch(batch.pieces[:middle], batch.ids[:middle], batch.mask[:middle], first),
        Batch(batch.pieces[middle:], batch.ids[middle:], batch.mask[middle:], second),
    ]
