"""What the pages ask of the store, asked once for all pages that want the same."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

from moodwire.licence import shown
from moodwire.records import floor_time
from moodwire.settings import Settings
from moodwire.store import watching
from moodwire.store.db import Store

HELD = 128  # answers
USUAL = timedelta(days=14)  # before the span that is looked at
P = ParamSpec("P")
T = TypeVar("T")


class Data:
    """Questions to the store by what is asked. An answer holds as long as its arguments, the time among them, do."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.clock = clock
        self.settings = settings
        self.names = {company.symbol: company.name for company in settings.watchlist.companies}
        self.displays = {source.name: source.display for source in settings.sources}
        self._answers: OrderedDict[Any, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._beside = ThreadPoolExecutor(4, "ask")

    def shown(self, text: str, source: str) -> str:
        """As much of a source's text as its licence lets us show."""
        return shown(text, self.displays.get(source, "full"))

    def ask_at(self, at: datetime, question: Callable[Concatenate[Store, P], T], *words: P.args, **more: P.kwargs) -> T:
        """As `ask`, for what may change while the question stays the same: the answer as of a beat."""
        return self._ask((at, question, words, tuple(more.items())), lambda: question(self.store, *words, **more))

    def ask(self, question: Callable[Concatenate[Store, P], T], *words: P.args, **more: P.kwargs) -> T:
        """The answer to `question(store, *words)`; who asks while another is asking the same waits for that."""
        return self._ask((question, words, tuple(more.items())), lambda: question(self.store, *words, **more))

    def _ask(self, key: Any, question: Callable[[], T]) -> T:
        with self._lock:
            held = self._answers.get(key)
            answer: Future[T] = held or Future()
            self._answers[key] = answer
            self._answers.move_to_end(key)
            if len(self._answers) > HELD:
                self._answers.popitem(last=False)
        if held is None:
            try:
                answer.set_result(question())
            except BaseException as error:
                with self._lock:
                    self._answers.pop(key, None)
                answer.set_exception(error)
        return answer.result()

    def beside(self, work: Callable[[], T]) -> Future[T]:
        """Begin work that asks, while the caller asks something else; such work must not begin more of it."""
        return self._beside.submit(work)

    def sources(self, now: datetime) -> list[str]:
        """The names under which articles came in: asked for once in ten minutes."""
        return self.ask_at(floor_time(now, 600), watching.sources)

    def usual(self, start: datetime, series: str | None = None) -> dict[str, float]:
        """By series, or of one: its mean score in the two weeks before the day of `start`: asked for once a day."""
        end = floor_time(start, 86_400)
        return self.ask(watching.usual, end - USUAL, end, series)
