"""One training run: steps with a schedule, averaged weights, the best of its epochs, and a checkpoint to go on from."""

import math
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

CHECKPOINT_S = 120.0
BUCKET = 50  # batches; within so many texts are sorted by length
TELL_EVERY = 200  # steps
CLIP = 1.0  # of the gradient's norm
BEST, STATE = "best.pt", "state.pt"
PATIENCE = 2  # epochs without gain


class Recipe(NamedTuple):
    epochs: int
    rate: float  # peak learning rate
    head_rate: float  # of the parameters outside the encoder
    batch: int = 32
    warmup: float = 0.06  # share of the steps; then linear to zero
    decay: float = 0.01  # of the weights (AdamW)
    average: float = 0.999  # of the moving average of the weights (Polyak), which is what is judged and kept
    frozen: bool = True  # word, position and type embeddings stay as they are
    seed: int = 7


def fit(
    model: nn.Module,
    lengths: Sequence[int],
    loss_of: Callable[[Sequence[int]], torch.Tensor],
    recipe: Recipe,
    folder: Path,
    judge: Callable[[], float] | None = None,
) -> None:
    """Train `model.encoder` and the rest; afterwards it has the best averaged weights of the epochs.

    lengths: tokens of each example; loss_of: the loss of examples by index; judge: lower is better, asked after each
    epoch with the averaged weights in place (None: the last epoch is the best). A run that was killed goes on from its
    checkpoint in `folder`; one that had ended is only read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / BEST).exists() and not (folder / STATE).exists():
        _read_best(model, folder)
        return
    plan = [batches(lengths, recipe, number) for number in range(recipe.epochs)]
    run = _Run(model, recipe, folder, sum(map(len, plan)))
    step = 0
    for number, epoch in enumerate(plan):
        for batch in epoch:
            step += 1
            if step > run.step:
                run.advance(loss_of(batch), len(batch))
        if number > run.judged and run.worse_for(number, judge) >= PATIENCE:
            break
    _read_best(model, folder)
    (folder / STATE).unlink()


def _read_best(model: nn.Module, folder: Path) -> None:
    model.load_state_dict(torch.load(folder / BEST, weights_only=True))
    model.eval()


class _Run:
    """What a run is made of, kept in a file every CHECKPOINT_S seconds."""

    def __init__(self, model: nn.Module, recipe: Recipe, folder: Path, steps: int) -> None:
        torch.manual_seed(recipe.seed)
        model.encoder.embeddings.requires_grad_(not recipe.frozen)
        inner = [p for p in model.encoder.parameters() if p.requires_grad]
        outer = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
        groups = [{"params": inner, "lr": recipe.rate}, {"params": outer, "lr": recipe.head_rate}]
        warmup = recipe.warmup * steps
        ema = torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.average)
        self._model = model
        self._optimizer = torch.optim.AdamW(groups, weight_decay=recipe.decay, fused=True)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup))
        )
        self._average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=ema)
        self._trained = [*inner, *outer]
        self._parts = {
            "model": self._model,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
            "average": self._average,
        }
        self._folder = folder
        self._steps = steps
        self.step = 0
        self.judged = -1  # the last epoch that was judged
        self._best = math.inf
        self._since = 0  # epochs since the best
        self._go_on()
        self._began = self._kept = time.monotonic()
        self._texts = 0
        self._loss = 0.0
        model.train()

    def advance(self, loss: torch.Tensor, texts: int) -> None:
        """One step."""
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._trained, CLIP)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self._model)
        self.step += 1
        self._texts += texts
        self._loss = 0.98 * self._loss + 0.02 * loss.item() if self._loss else loss.item()
        if self.step % TELL_EVERY == 0:
            rate = self._texts / (time.monotonic() - self._began)
            left = (self._steps - self.step) * texts / rate / 60
            at = f"step {self.step}/{self._steps}  loss {self._loss:.3f}  {rate:.0f} texts/s  {left:.0f} min left"
            print(f"  {self._folder.name}: {at}", flush=True)
        if time.monotonic() - self._kept > CHECKPOINT_S:
            self._keep()

    def worse_for(self, epoch: int, judge: Callable[[], float] | None) -> int:
        """Judge the averaged weights after an epoch and keep them if they are the best; epochs since the best."""
        trained = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self._model.load_state_dict(self._average.module.state_dict())
        self._model.eval()
        worth = judge() if judge else -float(epoch)
        print(f"  {self._folder.name}: epoch {epoch + 1}: {worth:.4f}", flush=True)
        self._since += 1
        if worth < self._best:
            self._best, self._since = worth, 0
            _write(self._folder / BEST, self._model.state_dict())
        self._model.load_state_dict(trained)
        self._model.train()
        self.judged = epoch
        self._keep()
        return self._since

    def _keep(self) -> None:
        self._kept = time.monotonic()
        told = {"step": self.step, "judged": self.judged, "best": self._best, "since": self._since}
        state = {name: part.state_dict() for name, part in self._parts.items()}
        _write(self._folder / STATE, {**told, **state, "rng": torch.get_rng_state()})

    def _go_on(self) -> None:
        if not (self._folder / STATE).exists():
            return
        state = torch.load(self._folder / STATE, weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        self.step, self.judged = state["step"], state["judged"]
        self._best, self._since = state["best"], state["since"]
        print(f"  {self._folder.name}: going on from step {self.step}", flush=True)


def batches(lengths: Sequence[int], recipe: Recipe, epoch: int) -> list[list[int]]:
    """Shuffled batches of similar length, so that little is padding."""
    rng = random.Random(recipe.seed * 1000 + epoch)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    span = recipe.batch * BUCKET
    found: list[list[int]] = []
    for at in range(0, len(order), span):
        part = sorted(order[at : at + span], key=lambda i: lengths[i])
        found += [part[i : i + recipe.batch] for i in range(0, len(part), recipe.batch)]
    rng.shuffle(found)
    return found


def _write(path: Path, state: Any) -> None:
    """Whole or not at all."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    os.replace(new, path)
