"""The forward pass on a CPU: the encoder as an OpenVINO graph made from the shipped weights."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from classifier.model_engine import Floats, Logits
from classifier.pieces import Batch
from classifier.weights import Weights

HEADS = 12
LAYERS = 6
WIDTH = 384
BUDGET = 1024  # tokens of a batch: what it works on stays in the CPU's caches
AT_ONCE = 2  # batches begun and not finished, as `model_engine.Forward` has it


class OpenVinoForward:
    """f32, or bf16 where the CPU is quicker by it; with `threads` threads (None: all cores)."""

    def __init__(self, loaded: Weights, threads: int | None = None) -> None:
        self.budget = BUDGET
        self._heads = {
            head: (loaded.tensors[f"{head}.weight"].astype(np.float32).T, loaded.tensors[f"{head}.bias"])
            for head in Logits._fields
        }
        core = ov.Core()
        capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # A stream for each of the two batches that are begun: with one, all its threads would wait in each layer for
        # the one whose core another stage takes.
        streams = min(AT_ONCE, threads or os.cpu_count() or 1)
        settings: dict[str, Any] = {"NUM_STREAMS": streams}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        model = encoder(loaded.tensors)
        compiled = {
            precision: core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": precision})
            for precision in (("f32", "bf16") if capable else ("f32",))
        }
        self.precision = quicker(compiled)
        self._requests = [compiled[self.precision].create_infer_request() for _ in range(AT_ONCE)]

    def start(self, batch: Batch) -> tuple[Any, Batch]:
        request = self._requests.pop()
        request.start_async([batch.ids, batch.mask], share_inputs=True)
        return request, batch

    def finish(self, begun: tuple[Any, Batch]) -> Logits:
        request, batch = begun
        request.wait()
        hidden, pooled = (request.get_output_tensor(number).data for number in range(2))
        towards = [np.concatenate([hidden[row, first:last].mean(0), pooled[row]]) for row, first, last in batch.spans]
        tokens = [hidden[row, first : last + 1] for row, first, last in batch.spans]
        logits = Logits(
            self._head("sentiment", pooled),
            self._head("topic", pooled),
            self._head("entity", np.stack(towards) if towards else np.empty((0, 2 * WIDTH), np.float32)),
            self._head("name", np.concatenate(tokens) if tokens else np.empty((0, WIDTH), np.float32)),
        )
        self._requests.append(request)
        return logits

    def _head(self, name: str, vectors: Floats) -> Floats:
        matrix, bias = self._heads[name]
        result: Floats = vectors @ matrix + bias
        return result


def quicker(compiled: Mapping[str, Any], clock: Callable[[], float] = time.perf_counter) -> str:
    """The precision in which a pass takes least: only some CPUs that compute bf16 are quicker by it.

    With AMX it is 3 times as quick as f32, with an Intel's AVX-512 alone 1.5 times as slow. Each takes its turn, and
    its best one counts.
    """
    if len(compiled) == 1:
        return next(iter(compiled))
    ids, mask = np.full((8, 32), 1000, np.int32), np.ones((8, 32), np.float32)
    took = dict.fromkeys(compiled, float("inf"))
    for number in range(4):
        for name, model in compiled.items():
            began = clock()
            model([ids, mask])
            if number:  # the first prepares it
                took[name] = min(took[name], clock() - began)
    return min(took, key=lambda name: took[name])


def encoder(tensors: dict[str, NDArray[np.float16]]) -> ov.Model:
    """BERT's encoder (Devlin et al. 2019) over ids and mask (texts, tokens).

    Gives the token vectors (texts, tokens, WIDTH) and their mean over each text (texts, WIDTH).
    """

    def constant(name: str) -> Any:
        return op.convert(op.constant(tensors[f"encoder.{name}"]), "f32")

    def linear(x: Any, name: str) -> Any:
        product = op.matmul(x, constant(f"{name}.weight"), False, True)
        return op.add(product, constant(f"{name}.bias"))

    def norm(x: Any, name: str) -> Any:
        centred = op.mvn(x, op.constant(np.array([-1], np.int64)), True, 1e-12, "inside_sqrt")
        return op.add(op.multiply(centred, constant(f"{name}.weight")), constant(f"{name}.bias"))

    def heads(x: Any) -> Any:
        split = op.reshape(x, op.constant(np.array([0, 0, HEADS, WIDTH // HEADS], np.int64)), True)
        return op.transpose(split, op.constant(np.array([0, 2, 1, 3], np.int64)))

    ids = op.parameter([-1, -1], np.int32, "ids")
    mask = op.parameter([-1, -1], np.float32, "mask")
    zero = op.constant(np.int64(0))
    length = op.gather(op.shape_of(ids, "i64"), op.constant(np.int64(1)), zero)
    positions = op.range(zero, length, op.constant(np.int64(1)), "i64")
    x = op.gather(constant("embeddings.word_embeddings.weight"), ids, zero)
    x = op.add(x, op.gather(constant("embeddings.position_embeddings.weight"), positions, zero))
    x = op.add(x, op.gather(constant("embeddings.token_type_embeddings.weight"), zero, zero))
    x = norm(x, "embeddings.LayerNorm")
    # 0 where there is a token, far below 0 where there is padding.
    bias = op.multiply(op.subtract(mask, op.constant(np.float32(1))), op.constant(np.float32(1e4)))
    bias = op.unsqueeze(op.unsqueeze(bias, op.constant(np.int64(1))), op.constant(np.int64(1)))
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        query, key, value = (heads(linear(x, f"{at}.attention.self.{part}")) for part in ("query", "key", "value"))
        attended = op.transpose(
            op.scaled_dot_product_attention(query, key, value, bias), op.constant(np.array([0, 2, 1, 3], np.int64))
        )
        joined = op.reshape(attended, op.constant(np.array([0, 0, WIDTH], np.int64)), True)
        x = norm(op.add(linear(joined, f"{at}.attention.output.dense"), x), f"{at}.attention.output.LayerNorm")
        inner = op.gelu(linear(x, f"{at}.intermediate.dense"), "erf")
        x = norm(op.add(linear(inner, f"{at}.output.dense"), x), f"{at}.output.LayerNorm")
    # The mean as a product with the mask, in f32: (texts, 1, tokens) by (texts, tokens, WIDTH).
    one = op.constant(np.int64(1))
    summed = op.squeeze(op.matmul(op.unsqueeze(mask, one), x, False, False), one)
    pooled = op.divide(summed, op.reduce_sum(mask, one, True))
    return ov.Model([x, pooled], [ids, mask], "moodwire-minilm")
