"""The pages in a real Chromium, over a real store, served by the real stage."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import urlopen
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy as sa
from dash.fingerprint import check_fingerprint
from pyarrow import parquet
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from alerts.desk import Desk
from alerts.plain import PlainWatch
from alerts.watch import Watch
from bench.browser import browser
from dashboard import frame, stage
from dashboard.parts import PAGE
from moodwire.errors import PortInUse
from moodwire.settings import Dashboard, Settings
from moodwire.stage import Context
from moodwire.store import labels
from moodwire.store.commands import Acknowledge, Backtest, Explain, done, say, waiting
from moodwire.trial import Trial, TrialAlarm, TrialSetting
from moodwire.words import Explanation, Word
from tests.dashboard.site import FORMULA, HOSTILE, INCIDENT, INCIDENT_ID, NOW, SETTINGS, add, alarm, clean, see, served
from tests.helpers import context


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with browser() as opened:
        yield opened


@pytest.fixture
def chrome(driver: Chrome) -> Iterator[Chrome]:
    """The same one for all tests; none sees what another left."""
    yield driver
    driver.get("about:blank")
    driver.get_log("browser")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Context, str]]:
    c = context(tmp_path, SETTINGS, lambda: datetime.now(UTC), "dashboard")
    add(c, 3, "Plain story")
    with served(c) as url:
        yield c, url


def until(driver: Chrome, script: str) -> object:
    return WebDriverWait(driver, 60, ignored_exceptions=[JavascriptException]).until(
        lambda d: d.execute_script(f"return {script}"), script
    )


def test_a_new_story_is_pushed_to_the_open_overview(
    tmp_path: Path, chrome: Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "QUIET_S", 3600)  # the page would not ask by itself
    c = context(tmp_path, SETTINGS, lambda: datetime.now(UTC), "dashboard")
    add(c, 3, "Plain story")
    with served(c) as url:
        chrome.get(url)
        see(chrome, "Plain story")
        see(chrome, "X · Xenon Motors")
        chrome.execute_script("window.still = 1")
        add(c, 2, "Story that came later")
        see(chrome, "Story that came later")
        assert chrome.execute_script("return window.still === 1"), "the page was loaded again"
        clean(chrome)


def test_all_scripts_are_kept_by_the_browser(site: tuple[Context, str], chrome: Chrome) -> None:
    chrome.get(site[1])
    until(chrome, "document.querySelector('#mood .trace') && document.querySelector('#stories .ag-row')")
    asked = "performance.getEntriesByType('resource').map(each => each.name).filter(name => name.includes('-suites/'))"
    scripts = chrome.execute_script(f"return {asked}")
    assert len(scripts) > 10
    assert not [url for url in scripts if not check_fingerprint(urlsplit(url).path)[1]]
    assert len(set(scripts)) == len(scripts)


def test_updates_leave_scroll_focus_sort_and_filter_as_they_are(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    for number in range(4, 40):
        add(c, number, f"Older story {number}")
    chrome.get(url)
    see(chrome, "Older story 5")
    rows = "document.querySelector('#stories .ag-body-viewport')"
    chrome.execute_script(f"{rows}.scrollTop = 400")
    link = "[...document.querySelectorAll('#stories a.title')].find(a => a.textContent === 'Older story 14')"
    until(chrome, f"!!{link}")
    chrome.execute_script(f"{link}.focus({{preventScroll: true}})")
    kept = f"[{rows}.scrollTop, document.activeElement.textContent]"
    before = chrome.execute_script(f"return {kept}")
    field = chrome.find_element(By.CSS_SELECTOR, "#series .ag-floating-filter input")
    chrome.execute_script("arguments[0].focus({preventScroll: true})", field)
    field.send_keys("Xenon")
    shown = "document.querySelectorAll('#series .ag-center-cols-container .ag-row')"
    until(chrome, f"{shown}.length === 1")
    chrome.execute_script(f"{link}.focus({{preventScroll: true}})")
    add(c, 2, "Story that came later")
    until(chrome, "document.querySelector('#now').textContent.includes('38stories')")
    until(chrome, f"{shown}[0].textContent.includes('38')")
    assert chrome.execute_script(f"return {kept}") == before
    assert field.get_attribute("value") == "Xenon"
    assert chrome.execute_script(f"return {shown}.length") == 1
    clean(chrome)


def test_a_list_grows_where_its_end_is_scrolled_to(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    for number in range(4, 4 + PAGE + 30):
        add(c, number, f"Older story {number}")
    chrome.get(f"{url}/series/all")
    see(chrome, f"the newest {PAGE}, last 24h")
    rows = "document.querySelector('#one-stories .ag-body-viewport')"
    chrome.execute_script(f"{rows}.scrollTop = {rows}.scrollHeight")
    see(chrome, f"{PAGE + 31}, last 24h")
    last = f"Older story {3 + PAGE + 30}"
    assert last not in chrome.find_element(By.ID, "one-stories").text
    chrome.execute_script(f"{rows}.scrollTop = {rows}.scrollHeight")
    see(chrome, last)
    add(c, 2, "Story that came later")
    see(chrome, f"{PAGE + 32}, last 24h")
    assert last in chrome.find_element(By.ID, "one-stories").text  # what was scrolled to stays
    chrome.find_element(By.XPATH, "//label[.='7d']").click()
    see(chrome, f"the newest {PAGE}, last 7d")  # another time begins anew
    clean(chrome)


def test_a_brushed_part_of_a_chart_shows_its_stories_and_its_link_shows_the_same(
    site: tuple[Context, str], chrome: Chrome
) -> None:
    c, url = site
    add(c, 30, "Early story", label="positive")
    chrome.get(f"{url}/series/entity%3AX?span=1h")
    see(chrome, "Plain story")
    see(chrome, "Early story")
    until(chrome, "!!document.querySelector('#one-mood .nsewdrag')")
    plot = chrome.find_element(By.CSS_SELECTOR, "#one-mood .nsewdrag")
    width = plot.rect["width"]
    # The last quarter of the hour.
    ActionChains(chrome).move_to_element_with_offset(plot, width * 0.25, 0).click_and_hold().move_by_offset(
        width * 0.12, 5
    ).move_by_offset(width * 0.12, 5).release().perform()
    until(chrome, "location.search.includes('pick=')")
    until(chrome, "!document.querySelector('#one-stories').textContent.includes('Early story')")
    see(chrome, "Plain story")
    link = chrome.current_url
    chrome.get("about:blank")
    chrome.get(link)
    see(chrome, "Plain story")
    see(chrome, "zoom in")
    assert "Early story" not in chrome.find_element(By.ID, "one-stories").text
    chrome.find_element(By.LINK_TEXT, "zoom in").click()
    see(chrome, "Back to the latest")
    assert "from=" in chrome.current_url
    clean(chrome)


def test_series_are_compared_and_crossed(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    add(c, 5, "Only legal", series=("all", "topic:legal"), source="Post")
    chrome.get(f"{url}/series/topic%3Alegal?also=entity%3AX&also=source%3APost")
    until(chrome, "document.querySelector('#one-mood').textContent.includes('from Post')")
    until(chrome, "document.querySelector('#one-mood').textContent.includes('Xenon')")
    chrome.get(f"{url}/series/{quote('topic:legal+entity:X', safe='')}")
    see(chrome, "legal × X · Xenon Motors")
    see(chrome, "Plain story")
    assert "Only legal" not in chrome.find_element(By.TAG_NAME, "body").text
    clean(chrome)


def test_an_incident_has_a_page_with_all_that_it_left(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    alarm(c)
    chrome.get(url)
    see(chrome, "9 where 0.5 are expected")
    chrome.get(f"{url}/incidents")
    see(chrome, "▲ firing")
    WebDriverWait(chrome, 60).until(lambda d: d.find_elements(By.LINK_TEXT, "X · Xenon Motors"))[0].click()
    see(chrome, "message “fires” by desk waits")
    see(chrome, "Evidence")
    see(chrome, "75% of its new stories")
    see(chrome, "fewer than 4 in an hour")
    assert "2 copies" in chrome.find_element(By.CSS_SELECTOR, ".evidence").text
    assert chrome.current_url == url + INCIDENT
    chrome.get(f"{url}/rules")
    see(chrome, "9 where 0.5 were expected")
    clean(chrome)


def test_what_people_do_about_an_incident_is_asked_of_the_alarms_and_shown(
    site: tuple[Context, str], chrome: Chrome
) -> None:
    c, url = site
    alarm(c)
    desk = Desk(Watch((), 60), PlainWatch(()), {})
    chrome.get(url + INCIDENT)
    see(chrome, "Evidence")
    until(chrome, "document.querySelector('#silence-until').value !== ''")

    def press(name: str) -> None:
        WebDriverWait(chrome, 60, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda d: d.find_element(By.XPATH, f"//button[text()='{name}']").click() is None
        )

    def write(id_: str, text: str) -> None:
        field = chrome.find_element(By.ID, id_)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text, Keys.TAB)

    press("comment")
    see(chrome, "Write your name first")
    write("who", "Ada")
    write("act-text", "we look into it")
    press("comment")
    see(chrome, "it waits for the alarms")
    assert desk.carry_out(c.store, datetime.now(UTC)) == 1
    see(chrome, "noted")
    see(chrome, "Ada: we look into it")
    write("silence-until", "later")
    press("silence")
    see(chrome, "'later' is no time")
    write("silence-until", f"{NOW + timedelta(hours=1):%Y-%m-%d %H:%M}")
    press("silence")
    see(chrome, "a silence needs a reason")
    write("act-text", HOSTILE)
    press("silence")
    see(chrome, "it waits for the alarms")
    assert desk.carry_out(c.store, datetime.now(UTC)) == 1
    see(chrome, "by Ada")
    see(chrome, "holds until")
    press("end the silence")
    see(chrome, "it waits for the alarms")
    assert desk.carry_out(c.store, datetime.now(UTC)) == 1
    until(chrome, "!document.querySelector('.silence')")
    see(chrome, "is over")
    press("acknowledge")
    see(chrome, "it waits for the alarms")
    with c.store.read() as connection:
        (given,) = waiting(connection, "alerts")
    assert (given.command, given.by) == (Acknowledge(incident_id=INCIDENT_ID), "Ada")
    chrome.get(url + "/label")  # the name is asked once
    WebDriverWait(chrome, 60).until(lambda d: d.find_element(By.ID, "who").get_attribute("value") == "Ada")
    clean(chrome)


def test_why_a_story_was_scored_so_is_asked_of_the_classifier_and_shown(
    site: tuple[Context, str], chrome: Chrome
) -> None:
    c, url = site
    add(c, 5, HOSTILE)
    chrome.get(url)
    see(chrome, "Plain story")
    title = "//*[@id='stories']//div[@class='story'][.//*[text()='Plain story']]//a[contains(., 'why?')]"
    WebDriverWait(chrome, 60).until(lambda d: d.find_elements(By.XPATH, title))[0].click()
    see(chrome, "Scored by test@1+0")
    see(chrome, "The body of Plain story")
    assert chrome.current_url == f"{url}/story/a3"

    def ask() -> Explain:
        see(chrome, "which words moved it?")
        chrome.find_element(By.ID, "story-ask").click()
        see(chrome, "it waits for the classifier")
        with c.store.read() as connection:
            (given,) = waiting(connection, "classifier")
        words = (Word("story", 6, 11, -0.25), Word("<img", 0, 4, 0.5), Word("far", 5000, 5003, 0.1))
        told = Explanation(model="m", score=-0.7, words=words, looked_at=30)
        with c.store.write() as connection:
            done(connection, given.seq, NOW, msgspec.json.encode(told).decode())
        assert isinstance(given.command, Explain)
        return given.command

    assert ask() == Explain(id="a3", revision=1)
    see(chrome, "Strongest: story −0.25")
    assert "story−0.25" in chrome.find_element(By.CSS_SELECTOR, ".moved.bad").text.replace("\n", "")
    clean(chrome)
    chrome.get(f"{url}/story/a5")
    see(chrome, "<script>window.hacked=1</script>")
    ask()
    see(chrome, "Strongest: <img +0.50")
    clean(chrome)
    chrome.get(f"{url}/story/none")
    see(chrome, "There is no such article")


def test_a_changed_rule_is_tried_and_its_snippet_can_be_taken(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    chrome.get(f"{url}/rules")
    see(chrome, "Try a rule")
    until(chrome, "document.querySelector('#try-text').value.includes('[[rules]]')")
    field = chrome.find_element(By.ID, "try-text")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("[[rules]]\nname = 5")
    chrome.find_element(By.ID, "try-go").click()
    see(chrome, "Expected str, got int - at $.name")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys('[[rules]]\nname = "r"\nminimum_stories = 7')
    chrome.find_element(By.ID, "try-go").click()
    see(chrome, "it waits for the alarms")
    with c.store.read() as connection:
        (given,) = waiting(connection, "backtests")
    assert isinstance(given.command, Backtest)
    assert [(rule.name, rule.minimum_stories) for rule in given.command.rules] == [("r", 4), ("r changed", 7)]
    say(c.store, given.seq, "0.42")
    see(chrome, "42% of the stories")
    assert "minimum_stories = 7" in str(field.get_attribute("value")), "what was typed stays"
    found = Trial(
        start=given.command.start,
        end=given.command.end,
        stories=321,
        settings=(TrialSetting(rule="r", per_week=1, own=True, alarms=1, weekly=0.25, series=(("entity:X", 1),)),),
        alarms=(TrialAlarm(rule="r", series="entity:X", at=NOW, until=None, reason="9 where 1 is expected"),),
    )
    with c.store.write() as connection:
        done(connection, given.seq, NOW, msgspec.json.encode(found).decode())
    see(chrome, "321 fresh stories")
    see(chrome, "9 where 1 is expected")
    see(chrome, "(so it is set)")
    clean(chrome)


def test_the_search_finds_what_is_typed_and_keeps_it_in_the_address(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    add(c, 5, "Refinery burns down")
    chrome.get(f"{url}/search")
    see(chrome, "2 stories")
    chrome.find_element(By.ID, "find-words").send_keys("refinery burn")
    see(chrome, "One story")
    see(chrome, "Refinery burns down")
    until(chrome, "new URLSearchParams(location.search).get('words') === 'refinery burn'")
    chrome.get(chrome.current_url + "&label=positive")
    see(chrome, "No story fits")
    assert chrome.find_element(By.ID, "find-words").get_attribute("value") == "refinery burn"
    clean(chrome)


def test_labels_are_given_by_single_keys_and_taken_back(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    chrome.get(f"{url}/label")
    see(chrome, "The model says negative")
    body = chrome.find_element(By.TAG_NAME, "body")
    body.send_keys("3")
    see(chrome, "Write your name first")
    chrome.find_element(By.ID, "who").send_keys("Ada")
    chrome.execute_script("document.activeElement.blur()")
    body.send_keys("n")  # a topic, then its sentiment
    see(chrome, "Now its sentiment?")
    body.send_keys("3")
    see(chrome, "Every story of the last 7 days has a label.")
    see(chrome, "positive, not negative")
    held = labels.corrections(c.store, None, None, None, None)
    assert sorted(zip(held["head"], held["label"], held["who"], held["was"], strict=True)) == [
        ("sentiment", "positive", "Ada", "negative"),
        ("topic", "mergers", "Ada", "legal"),
    ]
    body.send_keys(Keys.BACKSPACE)
    see(chrome, "Taken back.")
    see(chrome, "The model says negative")
    assert list(labels.corrections(c.store, None, None, None, None)["head"]) == ["topic"]
    clean(chrome)


def test_hostile_text_is_text_in_every_place(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    add(c, 1, HOSTILE, url="javascript:alert(1)", source="<b onclick=x>Wire</b>")
    add(c, 2, "long " + "x" * 10_000)
    alarm(c)
    hostile_source = quote("source:<b onclick=x>Wire</b>", safe="")
    pages = (
        "/",
        "/series/entity%3AX",
        f"/series/{hostile_source}",
        INCIDENT,
        "/search?words=window",
        "/label",
        "/story/a1",
    )
    for path in pages:
        chrome.get(url + path)
        see(chrome, "<script>window.hacked=1</script>")
        assert chrome.find_elements(By.CSS_SELECTOR, "a[href^=javascript], img[src=x], b[onclick]") == []
        assert chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth"), path
        clean(chrome)


def test_exports_hold_all_rows_and_no_formula(site: tuple[Context, str]) -> None:
    c, url = site
    for number in range(4, 80):
        add(c, number, FORMULA)
    alarm(c)

    def rows(path: str) -> list[dict[str, str]]:
        with urlopen(f"{url}/export/{path}") as answer:
            assert answer.headers["Content-Type"].startswith("text/csv")
            return list(csv.DictReader(io.StringIO(answer.read().decode())))

    stories = rows("stories.csv?span=7d")
    assert len(stories) == 77 > 60  # more than the page shows
    assert {story["title"] for story in stories} == {"Plain story", "'" + FORMULA}
    assert [row["title"] for row in rows("stories.csv?words=plain")] == ["Plain story"]
    assert sum(int(row["stories"]) for row in rows("course.csv?series=entity%3AX")) == 77
    assert {row["series"] for row in rows("overview.csv")} == {"all", "entity:X", "topic:legal"}
    assert [row["state"] for row in rows("incidents.csv")] == ["firing"]
    for what in ("stories", "course", "overview", "incidents"):
        with urlopen(f"{url}/export/{what}.parquet?span=7d") as answer:
            table = parquet.read_table(io.BytesIO(answer.read()))
        assert table.num_rows == len(rows(f"{what}.csv?span=7d"))
        assert "title" not in table.column_names or FORMULA in table["title"].to_pylist()


def test_span_and_zone_are_in_the_address_and_chosen_once(site: tuple[Context, str], chrome: Chrome) -> None:
    _, url = site
    chrome.get(f"{url}/?span=7d&zone=Asia/Tokyo")
    see(chrome, "mood of all news, last 7d")
    at = (NOW.replace(microsecond=0)).astimezone(ZoneInfo("Asia/Tokyo"))
    see(chrome, f"{at:%d %b}")
    assert chrome.find_element(By.ID, "zone").get_attribute("value") == "Asia/Tokyo"
    chrome.find_element(By.LINK_TEXT, "Search").click()
    see(chrome, "One story, last 7d")
    assert chrome.current_url.endswith("/search?span=7d&zone=Asia%2FTokyo")
    chrome.find_element(By.XPATH, "//div[@id='span']//label[text()='1h' or .//*[text()='1h']]").click()
    see(chrome, "One story, last 1h")
    clean(chrome)


def test_a_broken_store_is_told_and_what_was_shown_stays(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    chrome.get(url)
    see(chrome, "Plain story")
    with c.store.write() as connection:
        connection.execute(sa.text("alter table counted rename to gone"))
        connection.execute(sa.text("update ticks set positions = 'new'"))
    see(chrome, "no such table")
    see(chrome, "Plain story")


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    taken = stage.listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(PortInUse, match=rf"127.0.0.1:{port}.*MOODWIRE_DASHBOARD_PORT"):
        stage.run(context(tmp_path, Settings(dashboard=Dashboard(port=port))))
    taken.close()
