"""For all tests: none depends on how fast the machine is."""

import pytest
from hypothesis import settings

# Files of few tests that take long. They come first, so that no process is left with one when the others are done.
LONG = ("test_faults.py", "test_demo.py", "test_flink.py", "test_wild.py", "test_train.py", "test_tour.py")

settings.register_profile("moodwire", deadline=None)
settings.load_profile("moodwire")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)
