"""Telling the open pages that there is something new.

One task looks at the store for all of them; each page holds one WebSocket callback of Dash, which waits for that task
and then sets the page's `beat`. The page's own callbacks follow it as ordinary requests and ask for data as of the
beat's time, so that all pages ask the same and share the answer.

Dash's socket is shared by the tabs of a browser, gives up after ten attempts to connect again, and does not tell when
one of several tabs has gone. Therefore a page also asks by itself when it has heard nothing for QUIET_S; and a wait
whose page is gone ends with the browser's socket.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Any

from dash import ctx, set_props

from moodwire.errors import MoodwireError
from moodwire.store.db import Store
from moodwire.store.watching import mark

LOOK_S = 0.1
REST_S = 0.4  # at least, between two beats
CROWD_S = 0.03  # and so much for each who waits for them, so that many pages do not overrun the server
MOST_REST_S = 3.0
LONGEST_S = 10.0  # a beat comes even when nothing is new: ages and health move on
QUIET_S = 30.0


def rest_s(waiting: int) -> float:
    """Between two beats, with so many waiting for them."""
    return min(max(REST_S, CROWD_S * waiting), MOST_REST_S)


class Live:
    """The time as of which the pages show the store."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._mark = ""
        self._at = clock()
        self._task: asyncio.Task[None] | None = None
        self._waiting = 0
        self._turn = asyncio.Event()

    def beat(self) -> str:
        """The present one. While nobody watches the store for the pages, it is the clock's."""
        if self._task is None or self._task.done():
            self._at = self._clock()
        return self._at.isoformat()

    def first(self) -> str:
        """The beat that a page begins with. What changes from now on is told; what was there before, it asks for."""
        if self._task is None or self._task.done():
            with contextlib.suppress(MoodwireError):
                self._mark = mark(self._store)
        return self.beat()

    def now(self) -> datetime:
        """The time of the present beat."""
        self.beat()
        return self._at

    async def tell(self) -> None:
        """Run as a page's WebSocket callback: set its beat at each change, until the socket closes."""
        socket: Any = ctx.websocket
        turns = self.turns()
        try:
            while socket is not None and not socket.is_shutdown:
                set_props("beat", {"data": (await anext(turns)).isoformat()})
        finally:
            await turns.aclose()

    async def turns(self) -> AsyncGenerator[datetime]:
        """The beats from now on; the store is watched for as long as someone waits for one."""
        self._waiting += 1
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._watch())
            while True:
                await self._turn.wait()
                yield self._at
        finally:
            self._waiting -= 1

    async def _watch(self) -> None:
        while self._waiting:
            with contextlib.suppress(MoodwireError):  # the page's own question will tell what is wrong
                await self._change()
            self._at = self._clock()
            turn, self._turn = self._turn, asyncio.Event()
            turn.set()
            await asyncio.sleep(rest_s(self._waiting))

    async def _change(self) -> None:
        """Returns when the store has changed, or after LONGEST_S."""
        for _ in range(round(LONGEST_S / LOOK_S)):
            now = await asyncio.to_thread(mark, self._store)
            if now != self._mark:
                self._mark = now
                return
            await asyncio.sleep(LOOK_S)
