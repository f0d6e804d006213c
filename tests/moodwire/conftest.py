"""A store of each kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from moodwire.store.db import Store
from tests.helpers import STORES


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = Store(STORES[request.param](tmp_path))
    store.upgrade()
    yield store
    store.close()
