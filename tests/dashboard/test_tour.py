"""Every page, light and dark, wide and narrow: nothing that keeps people out, no error, nothing cut off."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bench.browser import browser
from tests.dashboard.site import INCIDENT, SETTINGS, add, alarm, clean, see, served
from tests.helpers import context

AXE = Path(__file__).parent / "axe" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = {  # and what tells that they are there
    "/": "Story 5",
    "/series/entity%3AX": "Story 5",
    "/series/all?also=entity%3AX&span=6h": "Story 5",
    "/incidents": "▲ firing",
    INCIDENT: "Evidence",
    "/rules": "[[rules]]",
    "/search?words=story": "Story 5",
    "/label": "The model says",
    "/story/a7": "Scored by",
    "/health": "dashboard",
    "/nowhere": "No such page",
}
SIZES = {"desktop": (1440, 1000), "phone": (390, 844)}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    c = context(tmp_path_factory.mktemp("site"), SETTINGS, lambda: datetime.now(UTC), "dashboard")
    for number in range(1, 12):
        add(c, number * 7, f"Story {number}", label=("negative", "neutral", "positive")[number % 3])
    alarm(c, "Story 1")
    with served(c) as address:
        yield address


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as driver:
        yield driver


@pytest.mark.parametrize(
    ("theme", "size"),
    [
        ("light", "desktop"),
        ("dark", "phone"),
        pytest.param("dark", "desktop", marks=pytest.mark.long),
        pytest.param("light", "phone", marks=pytest.mark.long),
    ],
)
def test_no_page_keeps_anyone_out(url: str, chrome: Chrome, theme: str, size: str) -> None:
    assert AXE.is_file(), "axe-core is not there: `./run test` installs it"
    width, height = SIZES[size]
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    media = [{"name": "prefers-color-scheme", "value": theme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    found = []
    for path, text in PAGES.items():
        chrome.get(url + path)
        see(chrome, text)
        WebDriverWait(chrome, 60).until(
            lambda d: not any("Loading" in part.text for part in d.find_elements(By.CSS_SELECTOR, "#page .empty"))
        )
        assert chrome.execute_script("return document.documentElement.dataset.mantineColorScheme") == theme
        chrome.execute_script(AXE.read_text())
        violations = chrome.execute_async_script(
            "var done = arguments[arguments.length - 1]; axe.run(document).then(r => done(r.violations))"
        )
        found += [
            (path, violation["id"], node["html"][:200], node["failureSummary"][:300])
            for violation in violations
            if violation["impact"] in {"serious", "critical"}
            for node in violation["nodes"]
        ]
        if chrome.execute_script("return document.documentElement.scrollWidth > innerWidth"):
            found.append((path, "wider than the window", "", ""))
        if path != "/nowhere":
            clean(chrome)
    assert found == []
