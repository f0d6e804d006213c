"""`moodwire detect`: surges in anyone's own counts, row by row, in order and without looking ahead."""

import csv
import itertools
import math
import statistics
import zoneinfo
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from alerts.calibration import WEEK_S
from alerts.counts import Counts
from alerts.detect import CATCH_UP_S, Detector, Span, Verdict, due
from ingest.readers import time_of
from moodwire.errors import BadInput
from moodwire.records import seconds
from moodwire.settings import Rule

FIELDS = ("timestamp", "value", "expected", "score", "alarm", "reason")
SHORTEST_S, LONGEST_S = 60, 3600
WINDOWS = (900.0, 3600.0, 14_400.0, 86_400.0)
SERIES = "counts"


class Row(NamedTuple):
    timestamp: str  # as the file has it
    at_s: int
    value: float | None  # None: no data
    total: float | None


def run(path: Path, columns: tuple[str, str, str | None], per_week: float, zone: str, out: Path) -> int:
    """Write a row for each row of the file; columns: of time, value and total. Raises BadInput."""
    if not 0 < per_week <= 1000:
        raise BadInput(f"--false-alarms-per-week {per_week:g}: give a number above 0 and at most 1000")
    if zone not in zoneinfo.available_timezones():
        raise BadInput(f"--timezone {zone}: no such time zone; Europe/Berlin is one")
    rows = list(read(path, *columns))
    step_s = step_of(rows, path)
    rule = rule_for(step_s, per_week, zone)
    alarms = 0
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for row, (expected, score, alarm, reason) in zip(rows, judged(rows, step_s, rule), strict=True):
            value = "" if row.value is None else f"{row.value:g}"
            usual = "" if math.isnan(expected) else f"{expected:.6g}"
            writer.writerow((row.timestamp, value, usual, f"{score:.6g}", int(alarm), reason))
            alarms += alarm
    weeks = len(rows) * step_s / WEEK_S
    print(f"{len(rows)} rows, {weeks:.1f} weeks at {step_s / 60:g} min a row: {alarms} alarms, in {out}")
    return 0


def read(path: Path, time_column: str, value_column: str, total_column: str | None) -> Iterator[Row]:
    """The file's rows. Raises BadInput with the line of what cannot be used."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            wanted = [time_column, value_column, *([total_column] if total_column else [])]
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(
                    f"{path}: there is no column {missing[0]}; there are {', '.join(reader.fieldnames or ())}"
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                try:
                    at = time_of(row[time_column])
                except ValueError as error:
                    raise BadInput(f"{where}: {error}") from error
                if at is None:
                    raise BadInput(f"{where}: {time_column} is empty; each row needs its time")
                total = _number(row[total_column], where) if total_column else None
                yield Row(row[time_column], seconds(at), _number(row[value_column], where), total)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _number(text: str | None, where: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise BadInput(f"{where}: {text!r} is no count; counts are 0 or more, and empty where there are no data")
    return value


def step_of(rows: list[Row], path: Path) -> int:
    """The seconds of a row. Raises BadInput unless rows are in order, 1 to 60 minutes apart."""
    if len(rows) < 2:
        raise BadInput(f"{path} has {len(rows)} rows; at least two are needed")
    gaps = [other.at_s - one.at_s for one, other in itertools.pairwise(rows)]
    for number, gap in enumerate(gaps, 3):
        if gap <= 0:
            raise BadInput(f"{path}, line {number}: not later than the row before; sort the rows by time")
    step = round(statistics.median(gaps))
    if not SHORTEST_S <= step <= LONGEST_S or LONGEST_S % step:
        raise BadInput(f"{path}: a row is {step / 60:g} min; it must be 1 to 60 min and divide the hour")
    return step


def rule_for(step_s: int, per_week: float, zone: str) -> Rule:
    windows = tuple(window for window in WINDOWS if window >= step_s and window % step_s == 0)
    return Rule(
        name="detect",
        series=(SERIES,),
        false_alarms_per_week=per_week,
        windows=windows,
        minimum_stories=3,
        timezone=zone,
    )


def judged(rows: Iterable[Row], step_s: int, rule: Rule) -> Iterator[tuple[float, float, bool, str]]:
    """Of each row: what was expected of it, the score, whether an alarm begins with it, and why or why not.

    A surge is told once: as long as its window stays strange, no other alarm begins, and its counts are not looked at
    again afterwards.
    """
    counts = Counts(step_s, 3 * 86_400, 40 * 86_400, dtype=float)
    detector = Detector(rule, counts)
    places = [counts.row(SERIES)]
    began_s: int | None = None
    silent: list[Span] = []
    spikes: list[Span] = []
    holding: int | None = None  # the window of the surge that is going on
    last_s, made_s = None, None
    for row in rows:
        start = row.at_s // step_s * step_s
        now = start + step_s
        if began_s is None:
            began_s = start
        if last_s is not None and start > last_s:
            silent.append((last_s, start))
        if row.value is None:
            silent.append((start, now))
        else:
            counts.fine.put(0, start // step_s, row.value if row.total is None else row.total, row.value)
            counts.hours.put(0, start // 3600, row.value if row.total is None else row.total, row.value, add=True)
        silent = _merged(silent)
        last_s = now
        if made_s != due(now, began_s):
            made_s = due(now, began_s)
            detector.refresh(made_s, began_s, places, {SERIES: spikes} if spikes else {}, silent)
        if not detector.ready:
            yield math.nan, 0.0, False, "the history is too short"
            continue
        gaps = [span for span in silent if span[1] > now - max(detector.windows) - CATCH_UP_S]
        ended = {0: spikes[-1][1]} if spikes and holding is None else {}
        look = detector.look(places, now, ended, gaps)
        expected = detector.expected_between(0, start, now)
        if row.value is None:
            yield expected, 0.0, False, "no data"
            continue
        detector.note(places, now, look)
        verdict = detector.verdict(look, 0, holding)
        begins = holding is None and verdict.fires
        if begins:
            holding = verdict.window_s
            spikes.append((now - verdict.window_s, now))
        elif holding is not None:
            spikes[-1] = (spikes[-1][0], now)
            if not verdict.holds:
                holding = None
        yield expected, strangeness(verdict, step_s), begins, reason(verdict, begins, holding)


def strangeness(verdict: Verdict, step_s: int) -> float:
    """log10 of the rows in which quiet times bring such a thing once; 0 for what is not strange."""
    return max(verdict.score + math.log10(WEEK_S / step_s), 0.0)


def reason(verdict: Verdict, begins: bool, holding: int | None) -> str:
    text = verdict.reason.replace("negative stories", "counted")
    return text if begins or holding is None else f"goes on: {text}"


def _merged(spans: list[Span]) -> list[Span]:
    """Spans in order, those that touch as one."""
    if len(spans) > 1 and spans[-2][1] >= spans[-1][0]:
        return [*spans[:-2], (spans[-2][0], spans[-1][1])]
    return spans
