"""The windows' counts by quix-streams, for comparison: run by `bench.flink` in an environment with `quixstreams`.

python quix_windows.py SERVER SCORED OUT STATE_DIR SECONDS     ends when nothing came for so many seconds
"""

import sys
from datetime import datetime
from typing import Any

from quixstreams import Application, State
from quixstreams.models import TopicConfig


def entries(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each series of a record."""
    if record["type"] != "scored":
        return []
    published, seen = (datetime.fromisoformat(record[name]) for name in ("published_at", "seen_at"))
    shared = {
        "id": record["id"],
        "story_id": record["story_id"],
        "start_s": int(published.timestamp()) // 60 * 60,
        "fresh": (seen - published).total_seconds() <= 7200,
        "place": [record["partition"], record["offset"]],
    }
    return [{**shared, "series": name, "label": label, "score_e4": score} for name, label, score in record["series"]]


def count(entry: dict[str, Any], state: State) -> dict[str, Any]:
    """The entry's window with it; an article and a story count by their first entry."""
    article, story = f"a:{entry['id']}", f"s:{entry['story_id']}"
    new = not state.exists(article), not state.exists(story)
    key = f"w:{entry['start_s']}"
    totals = state.get(key, [0] * 8)
    if new[0]:
        state.set(article, 1)
        totals[0] += 1
    if new[1]:
        state.set(story, 1)
        at = ("negative", "neutral", "positive").index(entry["label"])
        totals[1 + at] += 1
        totals[4 + at] += entry["fresh"]
        totals[7] += entry["score_e4"]
    if any(new):
        state.set(key, totals)
    return {"series": entry["series"], "start_s": entry["start_s"], "totals": totals, "place": entry["place"]}


def main() -> None:
    server, scored, out, folder, seconds = sys.argv[1:]
    app = Application(server, consumer_group=f"{out}.group", auto_offset_reset="earliest", state_dir=folder)
    rows = app.dataframe(app.topic(scored, value_deserializer="json"))
    rows = rows.apply(entries, expand=True).group_by("series").apply(count, stateful=True)
    # Else what is written bears the time of what was read.
    by_arrival = {"message.timestamp.type": "LogAppendTime"}
    appended = TopicConfig(num_partitions=1, replication_factor=1, extra_config=by_arrival)
    rows.to_topic(app.topic(out, value_serializer="json", config=appended))
    app.run(timeout=float(seconds))


if __name__ == "__main__":
    main()
