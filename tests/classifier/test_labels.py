from classifier.labels import SENTIMENTS, TOPIC_NAMES, TOPICS


def test_sentiments_in_order_of_the_outputs() -> None:
    assert SENTIMENTS == ("negative", "neutral", "positive")


def test_topics_in_order_of_the_data_set() -> None:
    assert len(TOPICS) == len(set(TOPICS)) == len(set(TOPIC_NAMES.values())) == 20
    assert (TOPICS[1], TOPICS[5], TOPICS[11], TOPICS[19]) == ("central-banks", "earnings", "ipo", "stock-movement")
    assert TOPIC_NAMES["mergers"] == "M&A | Investments"


def test_slugs_fit_in_the_name_of_a_series() -> None:
    assert all(slug.replace("-", "").isalpha() and slug.islower() for slug in TOPICS)
