"""The frame comes with the page that is asked for, and with what its address says chosen; what comes later is told."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboard.app import build
from dashboard.live import Live
from tests.dashboard.site import SETTINGS, add
from tests.helpers import context

HOST = "http://127.0.0.1"


def parts(component: Any, found: dict[str, Any]) -> dict[str, Any]:
    """All parts of a layout that have an id, by it."""
    if isinstance(component, list):
        for each in component:
            parts(each, found)
    elif isinstance(component, dict):
        props = component.get("props", {})
        if isinstance(props.get("id"), str):
            found[props["id"]] = props
        parts(props.get("children"), found)
    return found


@pytest.mark.parametrize(
    ("address", "held", "span"),
    [
        ("/?span=7d", {"mood", "stories"}, "7d"),
        ("/series/entity%3AX?also=all", {"one-mood", "one-stories"}, "24h"),
        ("/series/all?from=2024-03-04T00:00:00Z&to=2024-03-05T00:00:00Z", {"one-mood"}, ""),
        ("/nowhere", set(), "24h"),
        (None, set(), "24h"),  # a browser that does not say: its page will ask
    ],
)
def test_a_first_view_has_its_page(tmp_path: Path, address: str | None, held: set[str], span: str) -> None:
    c = context(tmp_path, SETTINGS, lambda: datetime.now(UTC), "dashboard")
    app = build(c.store, SETTINGS, c.clock)

    async def ask() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app.server), base_url=HOST) as client:
            headers = {} if address is None else {"Referer": HOST + address}
            return (await client.get("/_dash-layout", headers=headers)).json()

    found = parts(asyncio.run(ask()), {})
    assert held <= found.keys()
    assert found["span"]["value"] == span
    path, _, search = (address or "").partition("?")
    assert found["where"].get("pathname") == (path or None)
    assert found["where"].get("search") == (None if address is None else f"?{search}" if search else "")
    assert bool(found["page"].get("children")) == (address is not None)


def test_a_page_is_told_of_what_came_after_it_and_not_of_what_it_has(tmp_path: Path) -> None:
    c = context(tmp_path, SETTINGS, lambda: datetime.now(UTC), "dashboard")
    live = Live(c.store, c.clock)

    async def told(within_s: float) -> bool:
        turns = live.turns()
        try:
            await asyncio.wait_for(anext(turns), within_s)
        except TimeoutError:
            return False
        finally:
            await turns.aclose()
        return True

    async def look() -> list[bool]:
        add(c, 3, "Before")
        live.first()
        before = await told(0.5)
        add(c, 2, "After")
        return [before, await told(20)]

    assert asyncio.run(look()) == [False, True]
