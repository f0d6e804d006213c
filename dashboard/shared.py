"""One answer for all pages that ask the same as of the same beat, down to its bytes."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard import person
from moodwire.access import Person

PATH = "/_dash-update-component"
LONGEST = 100_000  # bytes of a question that is looked at
HELD = 64  # answers
NOBODY = Person("", "viewer")


class _Question(msgspec.Struct):
    output: str = ""


def following(callbacks: Mapping[str, Any]) -> frozenset[str]:
    """Of Dash's callbacks those that each beat sets off, by their output."""
    return frozenset(name for name, one in callbacks.items() if any(each["id"] == "beat" for each in one["inputs"]))


class Shared:
    """ASGI middleware, inside of the guard. outputs: of the callbacks whose answer hangs on the question alone.

    They are answered as to a viewer without a name, so that nothing meant for one person reaches another.
    """

    def __init__(self, app: ASGIApp, outputs: Collection[str]) -> None:
        self._app = app
        self._outputs = outputs
        self._answers: OrderedDict[bytes, asyncio.Task[list[Message]]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        body, whole = await _read(receive)
        if not whole or not self._is_shared(body):
            await self._app(scope, _again(body, whole, receive), send)
            return
        for message in await asyncio.shield(self._answer(scope, body)):
            await send({**message})  # who sends it on may write into it

    def _is_shared(self, body: bytes) -> bool:
        try:
            return msgspec.json.decode(body, type=_Question).output in self._outputs
        except msgspec.MsgspecError:
            return False

    def _answer(self, scope: Scope, body: bytes) -> asyncio.Task[list[Message]]:
        held = self._answers.get(body)
        if held is None:
            held = self._answers[body] = asyncio.create_task(self._made(scope, body))
            held.add_done_callback(lambda task: self._forget_failed(body, task))
        self._answers.move_to_end(body)
        if len(self._answers) > HELD:
            self._answers.popitem(last=False)
        return held

    async def _made(self, scope: Scope, body: bytes) -> list[Message]:
        person.is_now(NOBODY)  # in this task alone
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        async def nothing() -> Message:
            return {"type": "http.disconnect"}

        await self._app(scope, _again(body, True, nothing), keep)
        return messages

    def _forget_failed(self, body: bytes, task: asyncio.Task[list[Message]]) -> None:
        good = not task.cancelled() and task.exception() is None and task.result()[0].get("status", 500) < 400
        if not good and self._answers.get(body) is task:
            del self._answers[body]


async def _read(receive: Receive) -> tuple[bytes, bool]:
    """The body of a request, and whether that is all of it."""
    body, more = b"", True
    while more and len(body) <= LONGEST:
        message = await receive()
        if message["type"] != "http.request":  # gone
            return body, False
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body, not more


def _again(body: bytes, whole: bool, receive: Receive) -> Receive:
    """The rest of a request as it was before its body was read."""
    first = iter([{"type": "http.request", "body": body, "more_body": not whole}])

    async def from_the_start() -> Message:
        return next(first, None) or await receive()

    return from_the_start
