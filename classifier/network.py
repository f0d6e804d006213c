"""The model in PyTorch: for training, and for the GPU. The extra `gpu` brings what it needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import BertConfig, BertModel

from classifier.labels import NAME_TAGS, SENTIMENTS, TOPICS

SHAPE = BertConfig(
    hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, vocab_size=30522
)  # of all-MiniLM-L6-v2


class Logits(NamedTuple):
    sentiment: torch.Tensor  # (texts, 3)
    topic: torch.Tensor  # (texts, 20)
    entity: torch.Tensor  # (spans, 3)
    name: torch.Tensor  # (texts, tokens, 3): outside, begin, inside


class Network(nn.Module):  # type: ignore[misc, unused-ignore]  # torch is not there where this is checked
    """One encoder, four heads.

    A text's vector is the mean of its token vectors; an entity is told by the mean over its own, beside the text's.
    Names of entities are told token by token.
    """

    def __init__(self, encoder: BertModel | None = None, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder or BertModel(SHAPE, add_pooling_layer=False)
        # Eager: on a CPU the fused attention's backward pass takes a third of a step.
        self.encoder.set_attn_implementation("eager")
        width = self.encoder.config.hidden_size
        self.sentiment = nn.Linear(width, len(SENTIMENTS))
        self.topic = nn.Linear(width, len(TOPICS))
        self.entity = nn.Linear(2 * width, len(SENTIMENTS))
        self.name = nn.Linear(width, len(NAME_TAGS))
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, spans: Sequence[tuple[int, int, int]]) -> Logits:
        """ids, mask: (texts, tokens); spans: (text, first token, last token + 1)."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        joined = torch.cat([_means(hidden, spans), pooled[[text for text, _, _ in spans]]], 1)
        return Logits(
            self.sentiment(self.dropout(pooled)),
            self.topic(self.dropout(pooled)),
            self.entity(self.dropout(joined)),
            self.name(self.dropout(hidden)),
        )


def precision(device: torch.device) -> torch.autocast:
    """bf16 where it is quick: on a GPU, on a CPU with matrix tiles. On another CPU a step takes longer than in f32."""
    tiles = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=tiles or device.type != "cpu")


def _means(hidden: torch.Tensor, spans: Sequence[tuple[int, int, int]]) -> torch.Tensor:
    """The mean vector of each span (spans, width), by a product: indexing by token is slow to go back through."""
    texts = torch.tensor([text for text, _, _ in spans], dtype=torch.long, device=hidden.device)
    bounds = torch.tensor([bound for _, *bound in spans], device=hidden.device).reshape(-1, 2, 1)
    place = torch.arange(hidden.shape[1], device=hidden.device)
    inside = ((place >= bounds[:, 0]) & (place < bounds[:, 1])).to(hidden.dtype)
    share = inside / inside.sum(1, keepdim=True)
    return torch.bmm(share.unsqueeze(1), hidden.index_select(0, texts)).squeeze(1)


def pretrained(folder: Path, dropout: float = 0.1) -> Network:
    """The encoder in a folder of transformers' making, with new heads."""
    encoder = BertModel.from_pretrained(
        folder, add_pooling_layer=False, hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0
    )
    return Network(encoder, dropout)


def from_tensors(tensors: Mapping[str, NDArray[np.float16]]) -> Network:
    """The model with the shipped weights."""
    network = Network()
    network.load_state_dict({name: torch.from_numpy(tensor).float() for name, tensor in tensors.items()}, strict=False)
    return network
