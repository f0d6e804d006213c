"""How texts are changed for training: spans stay on their names."""

from hypothesis import given
from hypothesis import strategies as st

from classifier.augment import HEADLINES, LINKS, joined, lent
from classifier.data import Example


def headline(number: int, label: int) -> Example:
    name = f"Company{number}"
    text = f"News of {name} today"
    return Example(text, sentiment=label, entities=((8, 8 + len(name), label),))


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 2)), min_size=1, max_size=20), st.integers(0, 9))
def test_joined_headlines_keep_each_company_s_sentiment(given_: list[tuple[int, int]], seed: int) -> None:
    examples = [headline(*one) for one in given_]
    label_of = {example.text[slice(*example.entities[0][:2])]: set[int]() for example in examples}
    for example in examples:
        label_of[example.text[slice(*example.entities[0][:2])]].add(example.entities[0][2])
    made = joined([*examples, Example("a post", sentiment=1)], seed, every=1)
    assert len(made) == len(examples)
    for example in made:
        assert any(link in example.text for link in LINKS)
        assert example.sentiment is None and example.topic is None
        assert len(example.entities) == 2
        for start, end, label in example.entities:
            assert label in label_of[example.text[start:end]]


def test_some_headlines_lend_their_sentiment_and_posts_keep_theirs() -> None:
    kept = [lent(headline(number, 2)).sentiment for number in range(400)]
    assert 400 / HEADLINES * 0.7 < kept.count(2) < 400 / HEADLINES * 1.3
    assert kept.count(2) + kept.count(None) == 400
    post = Example("a post", sentiment=0)
    assert lent(post) == post
    assert lent(headline(1, 0)).entities == headline(1, 0).entities
