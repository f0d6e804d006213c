"""What is trained on: no text of a validation file or a held-out fifth, each text once."""

import json
from pathlib import Path

import pytest

from classifier.data import Example, finentity, is_held_out, sentfin, tfns, training
from classifier.text import identity

TITLES = [f"Acme Corp gains {n} percent" for n in range(20)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")

    write("tfns/sent_train.csv", 'text,label\nFirst rises,1\n"Leaked, it falls https://t.co/x",0\nBoth,2\n')
    write("tfns/sent_valid.csv", "text,label\nleaked it FALLS!,0\n")
    write("tfn_topic/topic_train.csv", f"text,label\nboth,5\nTopic leak,3\n{next(filter(is_held_out, TITLES))},4\n")
    write("tfn_topic/topic_valid.csv", "text,label\nTopic: leak,3\n")
    rows = "".join(f"{n},{title},\"{{'Acme Corp': 'positive'}}\",3\n" for n, title in enumerate(TITLES))
    broken = "99,Dr Reddy's up as Acme falls,\"{'Dr Reddy's': 'positive', 'Acme': 'negative'}\",3\n"
    write("sentfin/SEntFiN.csv", f"S No.,Title,Decisions,Words\n{rows}{broken}")
    paragraphs = [
        {"content": f"Acme fell {n}", "annotations": [{"start": 0, "end": 4, "tag": "Negative"}]} for n in range(20)
    ]
    write("finentity/FinEntity.json", json.dumps(paragraphs))
    return tmp_path


def test_nothing_that_is_measured_on_is_trained_on(folder: Path) -> None:
    texts = [identity(example.text) for example in training(folder)]
    assert len(texts) == len(set(texts))
    held_out = [example.text for part in (sentfin, finentity) for example in part(folder, True)]
    assert held_out
    for text in ["Leaked it falls", "Topic leak", *held_out]:
        assert identity(text) not in texts
    assert {"first rises", "both"} < set(texts)
    assert len(texts) == 2 + sum(len(part(folder, False)) for part in (sentfin, finentity))


def test_one_text_in_two_sets_keeps_both_labels(folder: Path) -> None:
    (both,) = [example for example in training(folder) if example.text == "Both"]
    assert (both.sentiment, both.topic) == (1, 5)


def test_labels_of_the_sets(folder: Path) -> None:
    assert [example.sentiment for example in tfns(folder, "train")] == [2, 0, 1]
    titles = sentfin(folder, held_out=False) + sentfin(folder, held_out=True)
    assert Example(TITLES[0], sentiment=2, entities=((0, 9, 2),)) in titles
    (two,) = [example for example in titles if example.text.startswith("Dr")]
    assert two.sentiment is None
    assert two.entities == ((0, 10, 2), (17, 21, 0))
