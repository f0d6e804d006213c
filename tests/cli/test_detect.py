"""`moodwire detect` on a file of counts."""

import csv
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli import detect
from moodwire.errors import BadInput

START = datetime(2024, 1, 1, tzinfo=UTC)


def counts(path: Path, minutes: int, days: int, surge_day: int | None, seed: int = 1, bad: str = "") -> Path:
    """About 6 an hour by day and 2 by night, of which a surge of 4 h is five times as many."""
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("when", "bad", "all"))
        for number in range(days * 1440 // minutes):
            at = START + timedelta(minutes=minutes * number)
            mean = (6 if 8 <= at.hour < 20 else 2) * minutes / 60
            surge = surge_day is not None and START + timedelta(days=surge_day) <= at < START + timedelta(
                days=surge_day, hours=4
            )
            value = sum(rng.random() < mean / 40 * (5 if surge else 1) for _ in range(40))
            writer.writerow((at.isoformat(), value, value + 3))
    return path


def found(path: Path, tmp_path: Path, per_week: float = 0.25, total: str | None = "all") -> list[dict[str, str]]:
    assert detect.run(path, ("when", "bad", total), per_week, "UTC", tmp_path / "out.csv") == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("minutes", [15, 60])
def test_each_row_has_its_row_and_a_surge_its_alarm(tmp_path: Path, minutes: int) -> None:
    rows = found(counts(tmp_path / "in.csv", minutes, 28, 25), tmp_path)
    assert list(rows[0]) == ["timestamp", "value", "expected", "score", "alarm", "reason"]
    assert len(rows) == 28 * 1440 // minutes
    alarms = [datetime.fromisoformat(row["timestamp"]) for row in rows if row["alarm"] == "1"]
    surge = START + timedelta(days=25)
    assert [at for at in alarms if surge <= at < surge + timedelta(hours=4)]
    assert len([at for at in alarms if at >= START + timedelta(days=14)]) <= 2
    top = max(rows, key=lambda row: float(row["score"]))
    assert surge <= datetime.fromisoformat(top["timestamp"]) < surge + timedelta(hours=28)
    noon, night = (
        [float(row["expected"]) for row in rows if f"T{hour}:00" in row["timestamp"] and row["expected"]][-1]
        for hour in ("12", "02")
    )
    assert noon > 1.8 * night


def test_it_does_not_look_ahead(tmp_path: Path) -> None:
    rows = found(counts(tmp_path / "in.csv", 60, 20, None), tmp_path)
    lines = (tmp_path / "in.csv").read_text().splitlines()
    (tmp_path / "cut.csv").write_text("\n".join(lines[: 1 + 15 * 24]) + "\n")
    assert found(tmp_path / "cut.csv", tmp_path) == rows[: 15 * 24]


def test_an_empty_value_is_no_data_and_a_gap_no_zero(tmp_path: Path) -> None:
    path = counts(tmp_path / "in.csv", 60, 20, None)
    lines = path.read_text().splitlines()
    for number in range(200, 260):
        lines[number] = lines[number].split(",")[0] + ",,"
    del lines[300:340]
    path.write_text("\n".join(lines) + "\n")
    rows = found(path, tmp_path)
    assert {row["reason"] for row in rows[199:259]} == {"no data"}
    whole = found(counts(tmp_path / "whole.csv", 60, 20, None), tmp_path)
    assert float(rows[-1]["expected"]) == pytest.approx(float(whole[-1]["expected"]), rel=0.3)
    assert not [row for row in rows[199:330] if row["alarm"] == "1"], "neither in the gaps nor in the day after"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when,bad\n2024-01-01,1\n", "at least two"),
        ("when,bad\n2024-01-01,1\nsoon,1\n", "line 3: not a time"),
        ("when,bad\n2024-01-01,1\n2024-01-01T00:05,-1\n", "line 3: '-1' is no count"),
        ("when,bad\n2024-01-02,1\n2024-01-01,1\n", "line 3: not later"),
        ("when,bad\n2024-01-01,1\n2024-01-02,1\n", "a row is 1440 min"),
        ("when,good\n2024-01-01,1\n", "there is no column bad; there are when, good"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(BadInput) as error:
        found(tmp_path / "in.csv", tmp_path, total=None)
    assert said in str(error.value)
