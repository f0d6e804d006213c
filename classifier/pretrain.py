"""Further training of the encoder on text without labels, by masked words (Devlin et al. 2019, section 3.1)."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F
from transformers import BertModel

from classifier.data import Example
from classifier.fit import Recipe, fit
from classifier.network import precision
from classifier.text import normalise

MASKED = 0.15  # of the tokens are to be guessed: 80% of them hidden, 10% replaced, 10% left
MAX_TOKENS = 128
CLS, SEP, MASK = 101, 102, 103
WORDS = (1000, 30000)  # token ids of the vocabulary that are words


class Guesser(nn.Module):  # type: ignore[misc, unused-ignore]
    """The encoder with a head that guesses tokens; the encoder's word vectors are the head's last layer."""

    def __init__(self, base: Path) -> None:
        super().__init__()
        self.encoder = BertModel.from_pretrained(base, add_pooling_layer=False, attn_implementation="eager")
        width = self.encoder.config.hidden_size
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(self.encoder.config.vocab_size))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Logits over the vocabulary of the tokens `at` (texts, tokens; true where one is to be guessed)."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[at]
        return F.linear(self.transform(hidden), self.encoder.embeddings.word_embeddings.weight, self.bias)


def pretrain(examples: Sequence[Example], base: Path, recipe: Recipe, folder: Path) -> Path:
    """Train the encoder in `base` further; returns the folder of the new one, laid out as `base` is."""
    result = folder / "encoder"
    if (result / "config.json").exists():
        return result
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    texts = [encoding.ids for encoding in tokenizer.encode_batch([normalise(example.text) for example in examples])]
    model = Guesser(base)
    fit(model, [len(ids) for ids in texts], lambda batch: loss_of(model, [texts[i] for i in batch]), recipe, folder)
    model.encoder.save_pretrained(folder / "new")
    shutil.copy(base / "tokenizer.json", folder / "new")
    (folder / "new").rename(result)
    return result


def loss_of(model: Guesser, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
    mask = (torch.arange(width) < torch.tensor([[len(text)] for text in texts])).long()
    chance = torch.rand(ids.shape)
    at = (mask == 1) & (ids != CLS) & (ids != SEP) & (torch.rand(ids.shape) < MASKED)
    given = torch.where(at & (chance < 0.8), MASK, ids)
    given = torch.where(at & (chance >= 0.9), torch.randint(*WORDS, ids.shape), given)
    with precision(ids.device):
        logits = model(given, mask, at)
    return F.cross_entropy(logits.float(), ids[at]) if at.any() else logits.sum() * 0
