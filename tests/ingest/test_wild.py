"""A sample of `./run bench ingest`: each way to misbehave once, over simulated hours, with a restart in the middle."""

from datetime import timedelta
from pathlib import Path

import pytest

from bench.ingest import START, Result, judged, simulate
from bench.newsworld import HABITS, KINDS, Asked, Complete, World, rude
from moodwire.store.articles import Draft, store_articles
from moodwire.store.db import Store


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return simulate(tmp_path_factory.mktemp("wild"), len(KINDS), 2, 450)


@pytest.mark.timeout(600)
def test_every_item_of_a_complete_response_is_ingested_once(result: Result, tmp_path: Path) -> None:
    assert result.lost == []
    assert result.doubled == []
    assert result.items > 3 * len(KINDS)
    assert result.articles == result.items
    assert 0 < result.revisions < result.items / 10, "only the source that edits its items has revisions"


def test_no_manners_are_broken(result: Result) -> None:
    assert result.rude == []
    assert result.states[304] > 0
    assert result.states[429] > 0
    assert result.states[301] <= 2, "a move for good is remembered, over a restart too"


def test_each_misbehaviour_has_its_reason(result: Result) -> None:
    assert {kind for kind in result.errors if kind in HABITS} == set()
    told = " / ".join(result.reasons)
    for reason in (
        "ConnectTimeout",
        "ReadTimeout",
        "not done after",
        "ReadError",
        "RemoteProtocolError",
        "larger than",
        "packed as",
        "stream is cut",
        "redirects",
        "not a public address",
        "HTTP 429",
        "HTTP 503",
        "HTTP 404",
        "robots.txt could not be had",
    ):
        assert reason in told


def test_the_judge_sees_what_is_lost_and_what_is_doubled(tmp_path: Path) -> None:
    """The checks can fail; only an answer that came too late is owed to nobody."""
    world = World(1, START, 1, lambda: START)
    host, minute = world.host(0), timedelta(minutes=1)
    had, late, bad = "N0I0X", "N0I1X", "N0I2X"
    world.complete += [
        Complete(host, START, frozenset({had})),
        Complete(host, START + minute, frozenset({had, late})),
        Complete(host, START + 2 * minute, frozenset({bad})),
    ]
    given_up = {(host, START + minute): "ReadTimeout: timed out", (host, START + 2 * minute): "not a feed: HTML"}
    store = Store(f"sqlite:///{tmp_path / 'moodwire.db'}")
    store.upgrade()
    drafts = [Draft(id_, "s0", "", f"{had} title", id_, "", START, START) for id_ in "ab"]
    store_articles(store, drafts, lambda draft: draft.id)
    result = judged(store, world, given_up, [])
    assert (result.lost, result.doubled, result.items, len(result.late)) == ([bad], [had], 2, 1)
    world.complete.append(Complete(host, START + 3 * minute, frozenset({late})))
    assert judged(store, world, given_up, []).lost == [late, bad]
    store.close()


def test_the_log_s_judge_sees_bad_manners(tmp_path: Path) -> None:
    """The check can fail."""
    world = World(1, START, 1, lambda: START)
    host = world.host(0)
    world.log += [
        Asked(host, START + timedelta(seconds=at), path, 200, agent, alone)
        for at, path, agent, alone in (
            (0, "/0/feed", "moodwire", True),
            (5, "/robots.txt", "moodwire", True),
            (6, "/0/secret/x", "moodwire", True),
            (6.5, "/0/feed", "moodwire", True),
            (8, "/robots.txt", "curl", False),
        )
    ]
    told = " / ".join(rude(world, 1.0))
    for broken in ("before robots.txt", "forbidden", "0:00:00.500000 after", "again after", "beside", "User-Agent"):
        assert broken in told
