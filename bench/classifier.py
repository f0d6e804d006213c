"""The classifier's figures on data that it was not trained on, and its speed.

./run bench classifier --data DIR [--weights DIR] [--threads N] [--only quality|speed]

DIR holds the data sets that the model card names (or set MOODWIRE_DATA). Prints Markdown tables. Hold a CPU with AMX
to AVX2 by ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 in the environment.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from classifier import pieces, weights
from classifier.data import (
    Example,
    digest,
    finentity,
    sentfin,
    surge,
    taborda,
    tfns,
    topics,
    training,
    unlabelled,
    validation,
)
from classifier.engine import WEIGHTS, Engine, Scores, gpu_is_there, open_engine
from classifier.evaluate import calibration_error
from classifier.model_engine import ModelEngine
from classifier.openvino_forward import OpenVinoForward
from classifier.text import identity, normalise

DOCUMENTS = 1500  # for the speed
GPU_DOCUMENTS = 60_000
ROUNDS = 5
BATCH = 64

Probabilities = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("quality", "speed"))
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / "tfns").is_dir():
        sys.exit("real data are needed: --data DIR or MOODWIRE_DATA, with the folders tfns, tfn_topic, sentfin … in it")
    data = Path(options.data)
    if options.only != "speed":
        quality(data, options.weights, options.threads)
    if options.only != "quality":
        speed(data, options.weights, options.threads)


def quality(data: Path, folder: Path, threads: int) -> None:
    engine = open_engine("openvino", folder, threads)
    held_to_its_word(data, folder)
    temperatures = weights.load(folder).temperatures
    print(f"Model {engine.model}\n")
    print("| set | rows | accuracy | weighted F1 | macro F1 | ECE before | ECE |\n|---|---|---|---|---|---|---|")
    for name, head, labels, probabilities in sets(engine, data):
        guesses = probabilities.argmax(1)
        before = calibration_error(labels, uncalibrated(probabilities, temperatures[head]))
        print(
            f"| {name} | {len(labels)} | {accuracy_score(labels, guesses):.4f} "
            f"| {f1_score(labels, guesses, average='weighted'):.4f} | {f1_score(labels, guesses, average='macro'):.4f} "
            f"| {before:.4f} | {calibration_error(labels, probabilities):.4f} |"
        )
    print()


def held_to_its_word(data: Path, folder: Path) -> None:
    """The lists of hashes beside the weights are those of the files, and share nothing."""
    for name, examples in (
        ("trained.sha1", [*training(data), *unlabelled(data)]),
        ("validation.sha1", validation(data)),
    ):
        if set((folder / name).read_text().split()) != {digest(example.text) for example in examples}:
            sys.exit(f"{name} does not list what the files in {data} hold")


def sets(engine: Engine, data: Path) -> Iterator[tuple[str, str, list[int], Probabilities]]:
    """Of each set: its name, the head, the true labels and the probabilities (rows, labels)."""
    trained = {identity(example.text) for load in (tfns, topics) for example in load(data, "train")}
    for name, head, valid in (
        ("TFNS valid", "sentiment", tfns(data, "valid")),
        ("topic valid", "topic", topics(data, "valid")),
    ):
        labels = [example.sentiment if head == "sentiment" else example.topic for example in valid]
        found = scored(engine, valid)
        probabilities = np.array([s.sentiment if head == "sentiment" else s.topics for s in found])
        yield f"{name}, official", head, labels, probabilities  # type: ignore[misc]
        kept = [i for i, example in enumerate(valid) if identity(example.text) not in trained]
        yield f"{name}, without texts in any train file", head, [labels[i] for i in kept], probabilities[kept]  # type: ignore[misc]
    for name, examples in (("SEntFiN", sentfin(data, True)), ("FinEntity", finentity(data, True))):
        mixed = [example for example in examples if len({label for _, _, label in example.entities}) > 1]
        for part, chosen in (("all", examples), ("texts with mixed labels", mixed)):
            labels = [label for example in chosen for _, _, label in example.entities]
            towards = np.array([p for s in scored(engine, chosen) for p in s.entities])
            yield f"{name} entities, held out, {part}", "entity", labels, towards
    for name, examples in (("surge, never trained on", surge(data)), ("Taborda, never trained on", taborda(data))):
        labels = [int(example.sentiment or 0) for example in examples]
        yield name, "sentiment", labels, np.array([s.sentiment for s in scored(engine, examples)])


def scored(engine: Engine, examples: Sequence[Example]) -> list[Scores]:
    spans = [[(start, end) for start, end, _ in example.entities] for example in examples]
    return engine.score([example.text for example in examples], spans)


def uncalibrated(probabilities: Probabilities, temperature: float) -> Probabilities:
    raised: Probabilities = np.maximum(probabilities, 1e-12) ** temperature
    scaled: Probabilities = raised / raised.sum(1, keepdims=True)
    return scaled


def speed(data: Path, folder: Path, threads: int) -> None:
    """Ours and others on the same titles, in turns, so that a noisy machine is noisy for all; medians of the rounds."""
    import torch

    torch.set_num_threads(threads)
    titles = list(dict.fromkeys(example.text for example in unlabelled(data)))[:DOCUMENTS]
    ours = open_engine("openvino", folder, threads)
    assert isinstance(ours, ModelEngine)
    assert isinstance(ours.forward, OpenVinoForward)
    runs: dict[str, Callable[[], Any]] = {
        "transformers pipeline, batch 32": pipeline(folder, titles),
        "PyTorch fp32, sorted batches": torch_passes(folder, titles, torch.float32),
        "PyTorch bf16, sorted batches": torch_passes(folder, titles, torch.bfloat16),
        f"moodwire, OpenVINO {ours.forward.precision}: bare forward pass": bare(ours, folder, titles),
        f"moodwire, OpenVINO {ours.forward.precision}": lambda: ours.score(titles, [()] * len(titles)),
    }
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS + 1):
        for name, once in runs.items():
            began = time.perf_counter()
            once()
            if number:  # the first round warms up
                took[name].append(time.perf_counter() - began)
    rates = {name: len(titles) / statistics.median(times) for name, times in took.items()}
    first, *_, forward, whole = rates.values()
    print(f"{len(titles)} distinct StockNet titles, {threads} threads, {instruction_set()}\n")
    print("| engine | docs/s | against the pipeline |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {rate / first:.2f} |")
    print(f"\nThe whole against the bare forward pass: {whole / forward:.2f}")
    alike(ours, folder, titles)
    gpu(data, folder)


def pipeline(folder: Path, titles: Sequence[str]) -> Callable[[], Any]:
    """The common way, with the same encoder: its head reads the first token, which costs the same."""
    import torch
    import transformers

    from classifier.network import SHAPE, from_tensors

    model = transformers.BertForSequenceClassification(SHAPE).eval()
    encoder = from_tensors(weights.load(folder).tensors).encoder
    model.bert.load_state_dict(encoder.state_dict(), strict=False)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", model_max_length=128
    )
    classify = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    texts = [normalise(title) for title in titles]

    def once() -> Any:
        with torch.inference_mode():
            return classify(texts, batch_size=32, truncation=True)

    return once


def torch_passes(folder: Path, titles: Sequence[str], kind: Any) -> Callable[[], None]:
    import torch

    from classifier.network import from_tensors

    model = from_tensors(weights.load(folder).tensors).eval()
    model.encoder.set_attn_implementation("sdpa")
    tokenizer = weights.tokenizer(folder)
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def once() -> None:
        cut = pieces.cut(tokenizer, [(title, ()) for title in titles])
        with torch.inference_mode(), torch.autocast("cpu", dtype=kind, enabled=kind != torch.float32):
            for batch in pieces.batches(cut, 4096):
                model(torch.from_numpy(batch.ids).long(), torch.from_numpy(batch.mask), ())

    return once


def bare(engine: ModelEngine, folder: Path, titles: Sequence[str]) -> Callable[[], None]:
    """Ready batches through the same graph, one after the other; nothing else."""
    tokenizer = weights.tokenizer(folder)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    cut = pieces.cut(tokenizer, [(title, ()) for title in titles])
    ready = list(pieces.batches(cut, engine.forward.budget))

    def once() -> None:
        begun = [engine.forward.start(ready[0])]
        for batch in ready[1:]:
            begun.append(engine.forward.start(batch))
            engine.forward.finish(begun.pop(0))
        engine.forward.finish(begun.pop())

    return once


def alike(ours: ModelEngine, folder: Path, titles: Sequence[str]) -> None:
    """How far probabilities move with the batch, and from engine to engine."""
    together = np.array([s.sentiment for s in ours.score(titles, [()] * len(titles))])
    alone = np.array([ours.score([title], [()])[0].sentiment for title in titles[:300]])
    other = open_engine("torch", folder)
    theirs = np.array([s.sentiment for s in other.score(titles, [()] * len(titles))])
    apart = np.abs(together - theirs)
    print(f"Alone or in a batch: at most {np.abs(alone - together[:300]).max():.4f} apart (limit .01)")
    print(
        f"PyTorch against OpenVINO: mean {apart.mean():.4f} (limit .005), p99 {np.quantile(apart, 0.99):.4f} "
        f"(limit .02), labels {(together.argmax(1) != theirs.argmax(1)).mean():.2%} (limit .3%)"
    )


def gpu(data: Path, folder: Path) -> None:
    if not gpu_is_there():
        print("GPU: not measured, none at hand")
        return
    import torch

    engine = open_engine("torch", folder)
    assert isinstance(engine, ModelEngine)
    titles = list(dict.fromkeys(example.text for example in unlabelled(data)))[:GPU_DOCUMENTS]
    once = bare(engine, folder, titles)
    runs = {"bare": once, "whole": lambda: engine.score(titles, [()] * len(titles))}
    best = {}
    for name, run in runs.items():
        times = []
        for _ in range(3):
            torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        best[name] = len(titles) / min(times)
    print(
        f"GPU {torch.cuda.get_device_name()}: {best['whole']:.0f} docs/s over {len(titles)} titles (goal 50,000 on an "
        f"H100), {best['whole'] / best['bare']:.2f} of the bare forward pass (goal .8)"
    )


def instruction_set() -> str:
    """What the CPU offers and the environment allows."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() == "AVX2":
        return "held to AVX2"
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return next((name for flag, name in ISA.items() if flag in flags), "no AVX2")


ISA = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 with bf16", "avx512f": "AVX-512", "avx2": "AVX2"}

if __name__ == "__main__":
    main()
