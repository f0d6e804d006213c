"""What is usual at a time of day, by the days before."""

from datetime import timedelta
from pathlib import Path

import pytest

from bench import years
from dashboard.data import Data
from dashboard.pages.overview import normal
from moodwire.settings import Settings
from moodwire.store import queries
from tests.helpers import T0, context


@pytest.mark.parametrize("ago_min", [0, 7, 90])
def test_steady_news_is_usual_up_to_the_last_point(tmp_path: Path, ago_min: int) -> None:
    c = context(tmp_path)
    years.fill(c.store, 5 * 144, T0, timedelta(days=5))  # a story each ten minutes
    end = T0 - timedelta(minutes=ago_min)
    begin = end - timedelta(days=1)
    usual = normal(Data(c.store, Settings(), c.clock), begin, end, 3600)
    assert usual is not None
    assert len(usual) == len(queries.mood(c.store, "all", begin, end, 3600))
    assert usual.tolist() == [6.0] * len(usual)


def test_the_first_day_knows_no_usual(tmp_path: Path) -> None:
    c = context(tmp_path)
    years.fill(c.store, 144, T0, timedelta(days=1))
    assert normal(Data(c.store, Settings(), c.clock), T0 - timedelta(hours=6), T0, 900) is None
