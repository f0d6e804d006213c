"""What the alarms know between ticks: counts by series, and incidents. No clock, no store."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from alerts.counts import DAY_S, HOUR_S, Count, Counts
from alerts.detect import SETTLED_S, Detector, Look, Peak, Span, Verdict, due, length_text
from alerts.flow import FLOW, Flow
from alerts.held import Held
from alerts.incidents import Incident, Step, advance
from moodwire.records import WINDOW_S
from moodwire.settings import AnyRule, Rule

FORGET_EVERY_S = DAY_S
KEPT = 0.9  # of the series; while more are alive, the others stay too
SLOT_S = 900  # what is expected is told once in it


class Change(NamedTuple):
    rule: AnyRule
    series: str
    step: Step
    verdict: Verdict
    previous: Incident | None


class Expectation(NamedTuple):
    """What a rule expected of a series in the windows that end at `at_s`, and from which count on each would fire."""

    series: str
    rule: str
    at_s: int
    by_window: list[tuple[int, float, int]]  # length in s, expected, threshold


class Learnt(NamedTuple):
    """What must be kept with the tick."""

    peaks: list[tuple[str, Peak]]  # by rule
    expectations: list[Expectation]


class Watch(Held[Rule]):
    """Takes windows and ticks in order and gives the incidents' changes of state. Times in seconds since 1970."""

    def __init__(self, rules: Iterable[Rule], fresh_s: float, cell_s: int = WINDOW_S) -> None:
        super().__init__(rules)
        windows = [round(window) for rule in self._rules.values() for window in rule.windows]
        # Counts of windows older than this change no more: a story is fresh for `fresh_s` only.
        self._recent_s = max(windows, default=0) + round(fresh_s) + HOUR_S
        days = max((rule.baseline_days for rule in self._rules.values()), default=0)
        self.memory_s = round(days * DAY_S) + max([*windows, SETTLED_S]) + DAY_S + 2 * HOUR_S
        self._counts = Counts(cell_s, self._recent_s, self.memory_s + DAY_S)
        self._detectors = {name: Detector(rule, self._counts) for name, rule in self._rules.items()}
        self._flow = Flow(self._counts, next((d.zone for d in self._detectors.values()), ZoneInfo("UTC")))
        self._changed: dict[str, bool] = {}  # since the last tick; true: by more negative stories
        self._spikes: defaultdict[str, defaultdict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
        self._firing: dict[tuple[str, str], int] = {}  # the window that an incident came from
        self._slot: dict[tuple[str, str], int] = {}
        self._expectations: list[Expectation] = []
        self._untold: defaultdict[str, list[tuple[str, int, list[Span]]]] = defaultdict(list)
        self._began_s: int | None = None
        self._forgot_s = 0
        self._silent: dict[int, list[Span]] = {}  # of this tick, by moment
        self._made_s = -1  # when the baselines were made
        self.last_s: int | None = None  # the tick last looked at

    def restore(
        self,
        last_s: int,
        counts: Iterable[tuple[str, int, Count]],
        incidents: Iterable[tuple[str, str, Incident]],
        windows: Mapping[tuple[str, str, int], int],
        peaks: Iterable[tuple[str, Peak]] = (),
    ) -> None:
        """Go on from a tick.

        counts: fresh ones by series and window start. incidents: of (rule, series), oldest first. windows: by rule,
        series and begin of an incident, the window that it came from. peaks: as they were kept.
        """
        self.last_s = last_s
        for series, start_s, count in counts:
            self._put(series, start_s, count)
        self._changed.clear()
        kept: defaultdict[str, list[Peak]] = defaultdict(list)
        for name, peak in peaks:
            kept[name].append(peak)
        for name, detector in self._detectors.items():
            detector.restore(kept[name], last_s)
        for name, series, incident in incidents:
            if name in self._rules:
                self._incidents[name, series] = incident
                if incident.pending:
                    continue
                window = windows.get((name, series, incident.since_s), self._detectors[name].windows[0])
                self._firing[name, series] = window
                self._spikes[name][series].append((incident.since_s - window, incident.until_s or last_s))

    def take(self, series: str, start_s: int, count: Count) -> None:
        """A window's counts. They only grow, so what says less than is known is older, and is passed over."""
        if self.last_s is None or start_s >= self.last_s - self._recent_s:
            self._put(series, start_s, count)

    def tick(self, now_s: int) -> list[Change]:
        """Look at what changed and at open incidents; a tick that was looked at before gives nothing."""
        if self.last_s is not None and now_s <= self.last_s:
            return []
        before, self.last_s = self.last_s, now_s
        self._silent.clear()
        changes: list[Change] = []
        for moment_s, name, series in self._falls(before or now_s, now_s):
            if (name, series) in self._incidents and self._incidents[name, series].alive:
                changes += self._look(name, [series], moment_s)
        open_ = self.open_incidents()
        for name, rule in self._rules.items():
            alive = [series for of, series, _ in open_ if of == name]
            changed = [series for series in self._changed if rule in self._applying(series)]
            risen = [series for series in changed if self._changed[series]]
            changes += self._look(name, alive, now_s, risen)
            self._tell(name, changed, now_s)
        self._changed.clear()
        if now_s - self._forgot_s >= FORGET_EVERY_S:
            self._forget(now_s)
        return changes

    def learnt(self) -> Learnt:
        """What came up since this was last asked, to be kept with the tick."""
        self._settle()
        peaks = [(name, peak) for name, detector in self._detectors.items() for peak in detector.raised()]
        expectations, self._expectations = self._expectations, []
        return Learnt(peaks, expectations)

    def size(self) -> int:
        """Windows and hours in memory."""
        return self._counts.fine.size() + self._counts.hours.size()

    def _falls(self, before_s: int, now_s: int) -> list[tuple[int, str, str]]:
        """The moments between two ticks at which an open incident's count falls or a pending one is due, in order."""
        found = []
        for name, series, incident in self.open_incidents():
            row = self._counts.known(series)
            # Windows that came with this tick count from it on.
            if row is None or series in self._changed:
                continue
            longest = self._firing.get((name, series), 0)
            if incident.pending:
                longest = self._detectors[name].windows[-1]
                due = incident.since_s + round(self._rules[name].pending_s)
                found += [(due, name, series)] if before_s < due < now_s else []
            starts = self._counts.starts(row, before_s - longest - self._counts.cell_s, now_s)
            found += [
                (moment, name, series)
                for window in self._detectors[name].windows
                if window <= longest
                for start in starts
                if before_s < (moment := start + window + 1) < now_s
            ]
        return sorted(set(found))

    def _look(self, name: str, alive: Sequence[str], now_s: int, risen: Sequence[str] = ()) -> list[Change]:
        """One rule at one moment: its incidents, and the series with more negative news: only these can begin one."""
        self._refresh(now_s)
        rule, detector = self._rules[name], self._detectors[name]
        if not detector.ready:
            return self._unready(name, alive, now_s)
        busy = detector.busy([self._counts.row(each) for each in risen], now_s) if risen else ()
        news = [each for each, enough in zip(risen, busy, strict=True) if enough]
        among = set(news)
        held = [each for each in alive if each not in among]
        series = [*held, *news]
        if not series:
            return []
        silent = self._silences(now_s)
        rows = [self._counts.row(each) for each in series]
        told = {
            row: end
            for row, each in zip(rows, series, strict=True)
            if (end := self._told(name, each)) > now_s - detector.windows[-1]
        }
        look = detector.look(rows, now_s, told, silent)
        if news:
            detector.note(rows[-len(news) :], now_s, Look(*(part[-len(news) :] for part in look)))
        no_data = bool(silent) and silent[-1][1] >= now_s
        changes: list[Change] = []
        begins = look.score >= detector.needed
        for at, each in enumerate(series):
            known = self._incidents.get((name, each))
            if known is not None and known.open:
                verdict = detector.verdict(look, at, self._firing.get((name, each)))
            elif (known is not None and known.pending) or (at >= len(held) and begins[at]):
                verdict = detector.verdict(look, at)
            else:
                continue
            if no_data:
                since = f"no news of any kind for {length_text(now_s - silent[-1][0])}: no data"
                verdict = verdict._replace(fires=False, holds=True, no_data=True, reason=since)
            changes += self._step(rule, each, verdict, now_s)
        return changes

    def _unready(self, name: str, series: Sequence[str], now_s: int) -> list[Change]:
        """Without a baseline nothing fires; what is open, ends."""
        changes: list[Change] = []
        for each in series:
            known = self._incidents.get((name, each))
            if known is not None and known.alive:
                verdict = Verdict(False, False, 0, 0.0, 0.0, "the history is shorter than a day")
                changes += self._step(self._rules[name], each, verdict, now_s)
        return changes

    def _step(self, rule: Rule, series: str, verdict: Verdict, now_s: int) -> list[Change]:
        key = (rule.name, series)
        previous = self._incidents.get(key)
        step = advance(previous, verdict, rule, now_s)
        if step.incident is None:
            self._incidents.pop(key, None)  # it was pending and did not last
            return []
        self._incidents[key] = step.incident
        if step.incident.pending:
            return []
        kept = self._spikes[rule.name][series]
        if step.changed == "firing":
            # The surge began before it was noticed: its whole window stays out of later baselines.
            kept.append((step.incident.since_s - verdict.window_s, now_s))
            self._firing[key] = verdict.window_s
        elif kept:
            kept[-1] = (kept[-1][0], now_s if step.incident.until_s is None else step.incident.until_s)
        return [Change(rule, series, step, verdict, previous)] if step.changed else []

    def _told(self, name: str, series: str) -> int:
        """Until when the series' stories were part of an incident that is over."""
        spans = self._spikes[name].get(series, [])
        known = self._incidents.get((name, series))
        if known is not None and known.open:
            spans = spans[:-1]
        return spans[-1][1] if spans else 0

    def _tell(self, name: str, changed: Sequence[str], now_s: int) -> None:
        """What is expected of the series with news, once in a slot and series."""
        self._refresh(now_s)
        detector = self._detectors[name]
        if not changed or not detector.ready:
            return
        detector.attend(now_s)
        slot = now_s // SLOT_S
        new = [series for series in changed if self._slot.get((name, series)) != slot]
        if new:
            silent = self._silences(now_s)
            self._slot.update(((name, series), slot) for series in new)
            self._untold[name] += [(series, now_s, silent) for series in new]

    def _settle(self) -> None:
        """What was expected since this was last worked out, and the thresholds: of many at once, as that is quick."""
        for name, untold in self._untold.items():
            detector = self._detectors[name]
            rows = [self._counts.row(series) for series, _, _ in untold]
            expected, dispersion = detector.expected(
                rows, [now_s for _, now_s, _ in untold], [silent for _, _, silent in untold]
            )
            thresholds = detector.threshold(expected, dispersion).astype(int).tolist()
            self._expectations += [
                Expectation(series, name, now_s, list(zip(detector.windows, map(_rounded, values), row, strict=True)))
                for (series, now_s, _), values, row in zip(untold, expected.tolist(), thresholds, strict=True)
            ]
        self._untold.clear()

    def _refresh(self, now_s: int) -> None:
        """Baselines and calibration, when they are due."""
        if self._began_s is None or (at_s := due(now_s, self._began_s)) == self._made_s:
            return
        self._settle()  # by the calibration under which it was expected
        self._made_s = at_s
        silent = self._flow.learn(at_s, self._began_s, at_s - self.memory_s)
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, series in enumerate(self._counts.names):
            for rule in self._applying(series):
                rows[rule.name].append(row)
        for name, detector in self._detectors.items():
            spikes = {series: spans for series, spans in self._spikes[name].items() if spans}
            detector.refresh(at_s, self._began_s, rows[name], spikes, silent)

    def _silences(self, now_s: int) -> list[Span]:
        if now_s not in self._silent:
            self._silent[now_s] = self._flow.silences(now_s - self._recent_s, now_s)
        return self._silent[now_s]

    def _put(self, series: str, start_s: int, count: Count) -> None:
        if not self._applying(series) and series != FLOW:
            return
        before = self._counts.grow(series, start_s, count)
        if before is None:
            return  # read again after a restart: it is no news, or open incidents would end later than without one
        if count.stories:
            self._began_s = start_s if self._began_s is None else min(self._began_s, start_s)
        self._changed[series] = self._changed.get(series, False) or count.negative > before.negative

    def _forget(self, now_s: int) -> None:
        """Keep memory flat: what no rule looks at goes."""
        self._settle()  # places change
        self._forgot_s = now_s
        oldest_s = now_s - self.memory_s - HOUR_S
        alive = self._counts.alive(oldest_s, now_s + DAY_S)
        if len(alive) < KEPT * len(self._counts.names):
            for detector in self._detectors.values():
                detector.keep(alive)
            self._counts.keep(alive)
        self._slot = {key: slot for key, slot in self._slot.items() if slot == now_s // SLOT_S}
        self._began_s = None if self._began_s is None else max(self._began_s, oldest_s)
        for spans in self._spikes.values():
            for series in list(spans):
                spans[series] = [span for span in spans[series] if span[1] >= oldest_s]
                if not spans[series]:
                    del spans[series]
        for (rule, series), incident in list(self._incidents.items()):
            if incident.until_s is not None and incident.until_s < oldest_s:
                del self._incidents[rule, series]
                self._firing.pop((rule, series), None)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
