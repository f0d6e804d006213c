"""A search for training settings, on one share of the training texts and the split held back from them.

./run bench search --data DIR --further DIR --work DIR [--trials N]

further: the encoder after further training (WORK/further/encoder of `moodwire train`). Trials are kept in
WORK/search.journal: a search that was stopped goes on, and --trials more are made. Validation files play no part in it.
Prints a Markdown table, the best first.
"""

import argparse
import os
from pathlib import Path

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from bench.tries import PLAIN, Try, result
from classifier import train
from classifier.data import training

SEED = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"), required=False)
    for name in ("further", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=10)
    options = parser.parse_args()
    options.base = options.further
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(os.cpu_count() or 1)
    examples = training(Path(options.data))

    def objective(trial: optuna.Trial) -> float:
        recipe = PLAIN._replace(
            epochs=trial.suggest_int("epochs", 2, 5),
            rate=trial.suggest_float("rate", 3e-5, 4e-4, log=True),
            head_rate=trial.suggest_float("head_rate", 3e-4, 3e-3, log=True),
            batch=trial.suggest_categorical("batch", [16, 32, 64]),
            average=trial.suggest_categorical("average", [0.0, 0.99, 0.997]),
        )
        train.SMOOTHING = trial.suggest_float("smoothing", 0.0, 0.15)
        dropout = trial.suggest_float("dropout", 0.0, 0.25)
        figures = result(Try(f"trial {trial.number}", recipe, dropout=dropout), SEED, examples, options)
        for name, value in figures.items():
            trial.set_user_attr(name, value)
        return figures["loss"]

    study = optuna.create_study(
        study_name="training",
        storage=JournalStorage(JournalFileBackend(str(options.work / "search.journal"))),
        sampler=optuna.samplers.TPESampler(seed=SEED),
        load_if_exists=True,
    )
    study.enqueue_trial(
        {"epochs": 3, "rate": 1e-4, "head_rate": 1e-3, "batch": 32, "average": 0.99, "smoothing": 0.05, "dropout": 0.1},
        skip_if_exists=True,
    )
    study.optimize(objective, n_trials=options.trials, callbacks=[lambda study, _: table(study)])


def table(study: optuna.Study) -> None:
    done = [trial for trial in study.trials if trial.value is not None]
    print("\n| loss | sentiment wF1 | topic wF1 | entity wF1 | minutes | settings |\n|---|---|---|---|---|---|")
    for trial in sorted(done, key=lambda trial: trial.value or 0.0):
        of = trial.user_attrs
        settings = ", ".join(f"{k} {v:.2g}" for k, v in trial.params.items())
        scores = " | ".join(f"{of[head]:.4f}" for head in ("sentiment", "topic", "entity"))
        print(f"| {trial.value:.4f} | {scores} | {of['minutes']:.1f} | {settings} |")
    print(flush=True)


if __name__ == "__main__":
    main()
