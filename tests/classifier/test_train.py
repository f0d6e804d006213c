"""Training: a killed run ends as one left in peace, and the whole recipe gives weights that the engine serves."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from classifier import fit as fitting
from classifier import train, weights
from classifier.bag import BITS, Bag
from classifier.data import Example, digest, training, unlabelled, validation
from classifier.engine import WEIGHTS, Scores, open_engine
from classifier.fit import Recipe, batches, fit
from classifier.network import SHAPE, Network

TINY = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=50)
QUICK = Recipe(epochs=3, rate=1e-2, head_rate=1e-2, batch=4, average=0.5)
TEXTS = [[1, 2, 3 + number % 5, 4] for number in range(40)]


class Killed(Exception):
    pass


def tiny() -> Network:
    torch.manual_seed(5)
    return Network(BertModel(TINY, add_pooling_layer=False))


def loss(model: Network, fatal: int = -1) -> Callable[[Sequence[int]], torch.Tensor]:
    calls = 0

    def of(indices: Sequence[int]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise Killed
        ids = torch.tensor([TEXTS[i] for i in indices])
        logits = model(ids, torch.ones_like(ids), ()).sentiment
        return torch.nn.functional.cross_entropy(logits, torch.tensor([i % 5 % 3 for i in indices]))

    return of


def states_equal(one: Network, other: Network) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("fatal", [1, 7, 10, 11, 25])
def test_a_killed_run_ends_as_one_left_in_peace(fatal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_S", 0.0)  # after each step
    lengths = [4] * len(TEXTS)
    peace = tiny()
    fit(peace, lengths, loss(peace), QUICK, tmp_path / "peace", lambda: -1.0)
    killed = tiny()
    with pytest.raises(Killed):
        fit(killed, lengths, loss(killed, fatal), QUICK, tmp_path / "killed", lambda: -1.0)
    again = tiny()
    fit(again, lengths, loss(again), QUICK, tmp_path / "killed", lambda: -1.0)
    assert states_equal(peace, again)
    assert not states_equal(peace, tiny())


def test_the_best_epoch_is_kept_and_training_stops_when_nothing_is_gained(tmp_path: Path) -> None:
    model, worths, seen = tiny(), iter([3.0, 1.0, 2.0, 2.0, 0.0]), []

    def judge() -> float:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(worths)

    fit(model, [4] * len(TEXTS), loss(model), QUICK._replace(epochs=5), tmp_path / "run", judge)
    assert len(seen) == 4, "two epochs without gain end it"
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in model.state_dict().items())


def test_each_epoch_has_every_text_once_in_batches_of_like_length() -> None:
    lengths = [n % 90 + 3 for n in range(1000)]
    for epoch in range(2):
        found = batches(lengths, QUICK, epoch)
        assert sorted(i for batch in found for i in batch) == list(range(1000))
        spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in found]
        assert sum(spread) / len(spread) < 5
    assert batches(lengths, QUICK, 0) != batches(lengths, QUICK, 1)


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """The data sets' files with a few made-up rows."""
    root = tmp_path / "corpora"

    def write(path: str, text: str) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")

    moods = ("falls after a warning", "rises on record profit", "holds its annual meeting")
    rows = [f"Company {n} {moods[n % 3]} today,{n % 3}" for n in range(60)]
    write("tfns/sent_train.csv", "text,label\n" + "\n".join(rows))
    write("tfns/sent_valid.csv", "text,label\nA held out company rises,1\n")
    write(
        "tfn_topic/topic_train.csv",
        "text,label\n" + "\n".join(f"Topic text {n} on rates and oil,{n % 20}" for n in range(60)),
    )
    write("tfn_topic/topic_valid.csv", "text,label\nA held out topic,3\n")
    titles = [f"Firm{n} gains as Rival{n} loses" for n in range(60)]
    cells = [f"\"{{'Firm{n}': 'positive', 'Rival{n}': 'negative'}}\"" for n in range(60)]
    lines = [f"{n},{title},{cell},5" for n, (title, cell) in enumerate(zip(titles, cells, strict=True))]
    write("sentfin/SEntFiN.csv", "S No.,Title,Decisions,Words\n" + "\n".join(lines))
    write("finentity/FinEntity.json", "[]")
    write("finentity/news_20230105.json", json.dumps([{"title": "Oil climbs on supply fears", "content": None}]))
    (root / "stocknet").mkdir()
    with gzip.open(root / "stocknet" / "stocknet_stream.jsonl.gz", "wt") as file:
        for n in range(20):
            file.write(json.dumps({"title": f"$AAPL and $MSFT trade at their highs again, part {n}"}) + "\n")
    return root


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A MiniLM that knows nothing."""
    torch.manual_seed(1)
    folder = tmp_path / "base"
    BertModel(SHAPE, add_pooling_layer=False).save_pretrained(folder)
    weights.tokenizer(WEIGHTS).save(str(folder / "tokenizer.json"))
    return folder


def test_the_whole_recipe_gives_weights_that_the_engine_serves(
    corpora: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "TEACHER_SEEDS", (7, 8))
    for name in ("FURTHER", "TEACHER", "OTHER", "STUDENT", "AGAIN"):
        monkeypatch.setattr(train, name, getattr(train, name)._replace(epochs=1))
    out, work = tmp_path / "out", tmp_path / "work"
    figures = train.run(corpora, base, out, work)
    assert set(figures) == {"sentiment", "topic", "entity", "name"}
    engine = open_engine("openvino", out, 2)
    (scores,) = engine.score(["Firm1 gains as Rival1 loses"], [[(0, 5)]])
    assert sum(scores.sentiment) == pytest.approx(1, abs=1e-4)
    trained, held_out = ((out / name).read_text().split() for name in ("trained.sha1", "validation.sha1"))
    assert set(trained) == {digest(e.text) for e in (*training(corpora), *unlabelled(corpora))}
    assert set(held_out) == {digest(e.text) for e in validation(corpora)}
    assert not set(trained) & set(held_out)

    before = weights.load(out)
    assert before.tensors["bag.weight"].any()
    assert "bag.weight" not in weights.load(work / "teacher-7").tensors, "teachers and bag are mixed but once"
    capsys.readouterr()
    assert train.run(corpora, base, out, work) == figures, "what is done is only read"
    told = capsys.readouterr().out
    assert "epoch" not in told
    assert "scoring" not in told
    after = weights.load(out)
    assert after.temperatures == before.temperatures
    assert all((tensor == after.tensors[name]).all() for name, tensor in before.tensors.items())


def items(texts: Sequence[str], topic: int | None = None, sentiment: int | None = None) -> list[train.Item]:
    tokenizer = weights.tokenizer(WEIGHTS)
    return [train.Item(tokenizer, Example(text, sentiment=sentiment, topic=topic)) for text in texts]


def test_a_bag_tells_what_it_was_fitted_on() -> None:
    names = ("Acme", "Globex", "Oil", "Gold", "The bank")
    texts = [f"{who} {what}" for what in ("falls", "rises", "waits") for who in names]
    labels = [0] * 5 + [1] * 5 + [2] * 5
    bag, prior = train.count(items(texts), labels)
    found = bag.logits(*train.laid_out(items([*texts, "Silver falls"])))
    assert found.argmax(1).tolist() == [*labels, 0]
    assert np.exp(prior) == pytest.approx([1 / 3] * 3)


def test_evidence_is_what_the_tokens_say_and_not_how_frequent_a_class_is() -> None:
    """Nine in ten texts are of one class: one of unknown tokens most likely is, too, but not by its tokens."""
    said = {0: [f"Acme holds its meeting {n}" for n in range(90)]}
    said |= {1: [f"Oil falls {n}" for n in range(5)], 2: [f"Gold gains {n}" for n in range(5)]}
    counted = train.bags([item for k, texts in said.items() for item in items(texts, topic=k, sentiment=k)])
    unknown, rare = train.laid_out(items(["Zebras graze"])), train.laid_out(items(["Oil falls"]))
    for one in counted:
        assert one.bag.logits(*unknown).argmax() == 0
        assert one.evidence.logits(*unknown).argmax() != 0
        assert one.evidence.logits(*rare).argmax() == 1


def test_opinions_are_the_mean_of_the_teachers_mixed_with_the_bags() -> None:
    item = train.Item(weights.tokenizer(WEIGHTS), Example("Acme falls", entities=((0, 4, -1),)))
    topics = (0.5, 0.5, *[0.0] * 18)
    one = Scores((0.6, 0.3, 0.1), topics, ((0.8, 0.1, 0.1),), (0.0,))
    other = Scores((0.4, 0.3, 0.3), topics, ((0.2, 0.2, 0.6),), (0.0,))
    flat = [Bag(np.zeros((1 << BITS, classes), np.float32), np.zeros(classes, np.float32)) for classes in (3, 20)]
    (mean,) = train.joint([[one], [other]], train.Bags(*(train.Counted(bag, bag) for bag in flat)), [item])
    raised = np.array([0.5, 0.3, 0.2]) ** (1 - train.BAG)
    assert mean.sentiment == pytest.approx(raised / raised.sum(), abs=1e-6)
    assert mean.entities[0] == pytest.approx((0.5, 0.15, 0.35))


def test_the_bag_has_the_share_that_it_is_worth() -> None:
    rng = torch.Generator().manual_seed(4)
    labels = torch.randint(0, 3, (600,), generator=rng)
    truth = torch.nn.functional.one_hot(labels, 3).float()
    deep, wide, noise = (torch.randn((600, 3), generator=rng) for _ in range(3))
    found = train.calibrated(2 * (truth + deep), labels, truth + wide)
    assert found.temperature == pytest.approx(2, rel=0.2)
    assert found.share == 0.5, "as much as there may be"
    assert train.calibrated(2 * (truth + deep), labels, noise).share < 0.1
    alone = train.calibrated(2 * (truth + deep), labels)
    assert alone.share == 0


def test_an_opinion_counts_beside_a_label_and_alone_where_there_is_none() -> None:
    torch.manual_seed(3)
    tokenizer = weights.tokenizer(WEIGHTS)
    model = Network(BertModel(SHAPE, add_pooling_layer=False)).eval()
    certain = Scores((1.0, 0.0, 0.0), (1.0, *[0.0] * 19), (), ())
    labelled, unlabelled = (train.Item(tokenizer, Example("Oil falls", sentiment=label)) for label in (2, None))

    def loss(*items: train.Item) -> float:
        with torch.no_grad():
            return float(train.loss_of(model, items))

    by_label, nothing = loss(labelled), loss(unlabelled)
    unlabelled.opinion = certain
    logits = train.logits_of(model, [unlabelled])
    sentiment, topic = (-torch.log_softmax(part, 1)[0, 0].item() for part in (logits.sentiment, logits.topic))
    assert nothing == 0
    assert loss(unlabelled) == pytest.approx(sentiment + topic, abs=1e-3)
    labelled.opinion = certain
    expected = (1 - train.SOFT) * by_label + train.SOFT * sentiment + topic
    assert loss(labelled) == pytest.approx(expected, abs=1e-3)
    assert loss(labelled, train.Item(tokenizer, Example("Gold"))) == pytest.approx(expected / 2, abs=1e-3)


def test_names_are_tagged_wherever_the_text_has_them() -> None:
    text = "Acme Steel sues Acme; acme's Acmeville"
    encoding = weights.tokenizer(WEIGHTS).encode(text)
    found = train.tags(text, ["Acme", "Acme Steel"], encoding.offsets)
    told = [(text[a:b], "OBI"[tag]) for (a, b), tag in zip(encoding.offsets, found, strict=True) if tag != train.NONE]
    joined = "".join(f" {word}/{tag}" for word, tag in told)
    assert joined == " Ac/B me/I Steel/I sue/O s/O Ac/B me/I ;/O ac/B me/I '/O s/O Ac/O me/O ville/O"
    assert found[0] == found[-1] == train.NONE, "the marks at both ends are no tokens of the text"
