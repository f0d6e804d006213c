"""Pictures of the pages: `python -m bench.screenshots --url URL --out DIR` while a dashboard runs there."""

import argparse
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bench.browser import browser

PAGES = {
    "overview": ("/?span=7d", ".js-plotly-plot .trace"),
    "series": ("/series/entity%3ABRDG?span=24h", ".js-plotly-plot .trace"),
    "compare": ("/series/all?span=14d&also=topic%3Alegal&also=group%3Afinance", ".js-plotly-plot .trace"),
    "incidents": ("/incidents", ".ag-row"),
    "incident": ("", ".timeline"),  # the newest
    "rules": ("/rules", "#rules pre"),
    "search": ("/search?span=14d&words=bank", ".ag-row"),
    "label": ("/label", ".to-label"),
    "health": ("/health", ".plain"),
}


# No part waits for its answer, and the fonts are there.
SETTLED = """
return document.fonts.status === 'loaded' && !document.querySelector('[data-dash-is-loading=true]')
  && !document.querySelector('.ag-overlay-loading-center')
  && ![...document.querySelectorAll('#page .dash-graph')].some(e => !e.querySelector('.main-svg'))
  && ![...document.querySelectorAll('#page .empty')].some(e => e.textContent.startsWith('Loading'))
  && document.querySelector('#health-line').textContent !== ''
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8050")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    for size, (width, height) in {"": (1440, 1000), "-phone": (390, 900)}.items():
        with browser(width, height) as driver:
            for name, (path, ready) in PAGES.items():
                if path:
                    driver.get(options.url.rstrip("/") + path)
                else:
                    driver.find_element(By.CSS_SELECTOR, "#incidents .ag-row[row-index='0'] a").click()
                wait = WebDriverWait(driver, 60)
                wait.until(lambda d, ready=ready: d.find_elements(By.CSS_SELECTOR, ready))
                if name == "rules":
                    driver.execute_script("document.getElementById('try-go').click()")
                    wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "#try-found table"))
                wait.until(lambda d: d.execute_script(SETTLED))
                target = options.out / f"{name}{size}.png"
                driver.save_screenshot(str(target))
                errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
                print(target, *errors)


if __name__ == "__main__":
    main()
