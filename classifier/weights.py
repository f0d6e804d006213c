"""The shipped weights: read once, proven whole before anything is scored with them."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from moodwire.errors import ModelError


class Weights(NamedTuple):
    tensors: dict[str, NDArray[np.float16]]
    temperatures: dict[str, float]  # by head
    model: str  # name@version+checksum


def load(folder: Path) -> Weights:
    """Weights in `model.safetensors`, as `model.sha256` beside it says they are.

    Raises ModelError when a file is missing, truncated or changed.
    """
    path = folder / "model.safetensors"
    try:
        stated = (folder / "model.sha256").read_text(encoding="ascii", errors="replace").strip()
        with path.open("rb") as raw:
            found = hashlib.file_digest(raw, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"the weights cannot be read: {error}; install moodwire again") from error
    if found != stated:
        raise ModelError(
            f"the weights in {path} are damaged: their SHA-256 is {found}, stated is {stated}; "
            "nothing was scored with them. Install moodwire again"
        )
    try:
        with safe_open(path, framework="numpy") as file:  # maps the file
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file: {error}") from error
    return Weights(
        tensors, json.loads(metadata["temperatures"]), f"{metadata['name']}@{metadata['version']}+{found[:8]}"
    )


def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in `tokenizer.json`. Raises ModelError when it is missing or cannot be read."""
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"the tokenizer in {path} cannot be read: {error}; install moodwire again") from error
