"""Pages that ask the same as of the same beat have one answer, made once, and nothing of anyone's own in it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from bench.queries import statements
from dashboard import person
from dashboard.app import build
from dashboard.shared import LONGEST, PATH, Shared, following
from moodwire.access import Person
from tests.dashboard.site import SETTINGS, add
from tests.helpers import context

Ask = Callable[[bytes], Awaitable[httpx.Response]]


class Counting:
    """An application that answers with whose question it was and what was asked, and can be told to fail."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.status = 200
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        self.asked.append(body)
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": f"{person.current()} ".encode() + body})


def asking(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


def question(output: str, beat: str = "1") -> bytes:
    return json.dumps({"output": output, "inputs": [{"id": "beat", "value": beat}]}).encode()


def test_the_same_question_is_answered_once_for_all() -> None:
    async def ask() -> tuple[list[httpx.Response], list[bytes]]:
        app = Counting()
        async with asking(Shared(app, {"mood.figure"})) as client:
            same, other = question("mood.figure"), question("mood.figure", "2")
            waiting = [asyncio.create_task(client.post(PATH, content=body)) for body in (same, other, same, same)]
            await asyncio.sleep(0)
            app.go_on.set()
            return [await each for each in (*waiting, asyncio.create_task(client.post(PATH, content=same)))], app.asked

    answers, asked = asyncio.run(ask())
    assert asked == [question("mood.figure"), question("mood.figure", "2")]
    assert [answer.content.endswith(question("mood.figure")) for answer in answers] == [True, False, True, True, True]


def test_who_asks_makes_no_difference_to_a_shared_answer_and_is_known_to_others() -> None:
    async def ask(name: str, output: str, shared: Shared) -> str:
        person.is_now(Person(name, "admin"))
        async with asking(shared) as client:
            return (await client.post(PATH, content=question(output))).text

    async def both(output: str) -> list[str]:
        app = Counting()
        app.go_on.set()
        shared = Shared(app, {"mood.figure"})
        return [await asyncio.create_task(ask(name, output, shared)) for name in ("ann", "ben")]

    ann, ben = asyncio.run(both("mood.figure"))
    assert ann == ben
    assert "ann" not in ann
    ann, ben = asyncio.run(both("acted.data"))
    assert ("ann" in ann, "ben" in ben) == (True, True)


@pytest.mark.parametrize(
    "body", [b"", b"no JSON", question("acted.data"), question("mood.figure")[:-1] + b" " * LONGEST + b"}"]
)
def test_what_is_not_shared_passes_whole(body: bytes) -> None:
    async def ask() -> list[bytes]:
        app = Counting()
        app.go_on.set()
        async with asking(Shared(app, {"mood.figure"})) as client:
            for _ in range(2):
                await client.post(PATH, content=body)
        return app.asked

    assert asyncio.run(ask()) == [body, body]


def test_a_failed_answer_is_not_kept() -> None:
    async def ask() -> list[int]:
        app = Counting()
        app.go_on.set()
        app.status = 503
        async with asking(Shared(app, {"mood.figure"})) as client:
            first = (await client.post(PATH, content=question("mood.figure"))).status_code
            app.status = 200
            return [first, (await client.post(PATH, content=question("mood.figure"))).status_code]

    assert asyncio.run(ask()) == [503, 200]


def test_fifty_open_pages_cost_the_store_what_one_costs(tmp_path: Path) -> None:
    c = context(tmp_path, SETTINGS, lambda: datetime.now(UTC), "dashboard")
    add(c, 3, "Plain story")
    app = build(c.store, SETTINGS, c.clock)
    output = next(name for name in following(app.callback_map) if name.startswith("..stories.rowData"))
    properties = [
        dict(zip(("id", "property"), part.split("."), strict=True)) for part in output.strip(".").split("...")
    ]
    beat = {"id": "beat", "property": "data", "value": c.clock().isoformat()}
    where = {"id": "where", "property": "search", "value": ""}
    body = {"output": output, "outputs": properties, "inputs": [beat, where], "changedPropIds": ["beat.data"]}

    async def ask(pages: int) -> tuple[list[bytes], int]:
        async with asking(app.server) as client:
            with statements(c.store) as asked:
                answers = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(pages)))
        return [answer.content for answer in answers], len(asked)

    answers, asked = asyncio.run(ask(50))
    assert set(answers) == {answers[0]}
    assert b"Plain story" in answers[0]
    assert asked == 1
