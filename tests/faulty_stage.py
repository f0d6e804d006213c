"""A stage that dies by SIGKILL at a chosen moment, or that commits before it works: run as a process by the tests.

    python -m tests.faulty_stage POINT COUNT MARKER [--commit-first] -- WORDS OF moodwire …

POINT: append, commit or write (a store transaction); it dies when it is about to do that for the COUNT-th time after
it took its first records, once: MARKER then exists, with what was in hand.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.main import main
from moodwire.store.db import Store
from moodwire.stream.embedded import EmbeddedConsumer, EmbeddedLog

TARGETS: dict[str, tuple[Any, str]] = {
    "append": (EmbeddedLog, "append"),
    "commit": (EmbeddedConsumer, "commit"),
    "write": (Store, "write"),
}


def arm(point: str, count: int, marker: Path) -> None:
    """Make the COUNT-th call of the point the last thing this process does."""
    owner, name = TARGETS[point]
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def deadly(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            marker.write_text(f"{point} {count}: {len(args[-1]) if args else 0} in hand")
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *args, **kwargs)

    setattr(owner, name, deadly)


def small_batches() -> None:
    """Many batches, so that the chosen moment comes, however fast the stages before this one are."""
    real = EmbeddedConsumer.poll

    def poll(self: EmbeddedConsumer, max_records: int, timeout_s: float) -> Any:
        return real(self, min(max_records, 100), timeout_s)

    EmbeddedConsumer.poll = poll  # type: ignore[method-assign]


def commit_first() -> None:
    """The fault that the design forbids: records are committed as soon as they are read."""
    real = EmbeddedConsumer.poll

    def poll(self: EmbeddedConsumer, max_records: int, timeout_s: float) -> Any:
        messages = real(self, max_records, timeout_s)
        if messages:
            self.commit({message.partition: message.offset + 1 for message in messages})
        return messages

    EmbeddedConsumer.poll = poll  # type: ignore[method-assign]


if __name__ == "__main__":
    at = sys.argv.index("--")
    point, count, marker, *options = sys.argv[1:at]
    small_batches()
    if "--commit-first" in options:
        commit_first()
    if not Path(marker).exists():
        arm(point, int(count), Path(marker))
    main(sys.argv[at + 1 :])
