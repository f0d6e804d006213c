"""Damaged weights are told before anything is scored with them."""

import hashlib
import shutil
from pathlib import Path

import pytest

from classifier import weights
from classifier.engine import WEIGHTS, open_engine
from moodwire.errors import ModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))


def test_shipped_weights_are_whole_and_light() -> None:
    loaded = weights.load(WEIGHTS)
    checksum = hashlib.sha256((WEIGHTS / "model.safetensors").read_bytes()).hexdigest()
    name, _, version = loaded.model.partition("@")
    assert name == "moodwire-minilm"
    assert version.endswith(f"+{checksum[:8]}")
    assert loaded.temperatures.keys() == {"sentiment", "topic", "entity", "name"}
    assert all(tensor.dtype == "float16" for tensor in loaded.tensors.values())
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 48_000_000


def test_truncated(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(ModelError, match="damaged"):
        open_engine("openvino", folder)


def test_one_bit_changed(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(20_000_000)
        byte = file.read(1)[0]
        file.seek(20_000_000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        open_engine("openvino", folder)


def test_not_safetensors_though_the_checksum_fits(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights")
    (folder / "model.sha256").write_text(hashlib.sha256(b"no weights").hexdigest())
    with pytest.raises(ModelError, match="no safetensors file"):
        open_engine("openvino", folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.sha256", "tokenizer.json"])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        open_engine("openvino", folder)


def test_checksum_of_garbage(folder: Path) -> None:
    (folder / "model.sha256").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="damaged"):
        open_engine("openvino", folder)


def test_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer"):
        open_engine("openvino", folder)


def test_no_text_that_measures_the_weights_has_shaped_them() -> None:
    trained, held_out = (set((WEIGHTS / name).read_text().split()) for name in ("trained.sha1", "validation.sha1"))
    assert len(trained) > 100_000
    assert len(held_out) > 8_000
    assert all(len(digest) == 12 for digest in trained | held_out)
    assert not trained & held_out
