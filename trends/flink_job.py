"""The windows as a Flink job, in SQL: `scored` in, counts and marks out. `trends/flink.py` starts it and keeps them.

Runs in an environment of its own (apache-flink); takes its settings as JSON from the standard input; ends when the job
does, or with the process that started it. Nothing of moodwire is imported here.

The definitions are those of the one-machine runner. An article counts once in a series, by its first record; a story
too, by its own first record, with that record's label and score. All records of an article are of one story. Records of
a story stand in one partition, and one reader takes a partition in its order, so the first to arrive is the first. What
is kept to know the first expires; so a window older than that is said to be late, and the store counts it.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pyflink.common import Configuration
from pyflink.common.job_status import JobStatus
from pyflink.table import EnvironmentSettings, TableEnvironment

BATCH_MS, BATCH_ROWS = 500, 5000  # counts wait so long, or for so many rows, for newer ones of their window
IDLE_MS = 30_000  # a partition without records holds the watermark back no longer than this
CHECKPOINT_MS = 10_000
LOCAL_MEMORY = "512m"  # for state, in the process's own cluster; the 128 MB it would have are slow from 100 MB of it on
# Of that cluster's JVM. With G1, its default, a record takes .36 ms of CPU, with this .27 ms.
LOCAL_JVM = "-XX:+UseParallelGC -Xmx1g"
COUNTS = ("negative", "neutral", "positive")
MARK = {  # the columns of a mark beside its kind
    "at_s": "BIGINT",
    "positions": "ARRAY<BIGINT>",
    "replayed": "BOOLEAN",
    "partition": "INT",
    "offset": "BIGINT",
    "reason": "STRING",
}


def main() -> None:
    given = json.load(sys.stdin)
    parent = os.getppid()
    os.environ.setdefault("JVM_ARGS", LOCAL_JVM)
    job = start(given)
    print(f"job {job.get_job_id()}", flush=True)
    if given["cluster"]:
        return
    while (status := job.get_job_status().result()) not in {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED}:
        if os.getppid() != parent:
            os.killpg(0, signal.SIGKILL)  # the JVM too, which may not end by itself
        time.sleep(0.5)
    with contextlib.suppress(Exception):
        job.get_job_execution_result().result()  # prints why
    sys.exit(f"the job ended: {status.name}")


def start(given: dict[str, Any]) -> Any:
    """Build the job and submit it; returns its client."""
    environment = TableEnvironment.create(
        EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration(given)).build()
    )
    for statement in tables(given):
        environment.execute_sql(statement)
    job = environment.create_statement_set()
    for statement in inserts(given):
        job.add_insert_sql(statement)
    client = job.execute().get_job_client()
    assert client is not None
    return client


def configuration(given: dict[str, Any]) -> Configuration:
    settings = {
        "pipeline.name": given["name"],
        "pipeline.jars": Path(given["connector"]).resolve().as_uri(),
        "parallelism.default": given["parallelism"],
        "table.local-time-zone": "UTC",
        "pipeline.object-reuse": "true",  # else each step copies a record's whole row
        "table.exec.mini-batch.enabled": "true",
        "table.exec.mini-batch.allow-latency": f"{BATCH_MS} ms",
        "table.exec.mini-batch.size": BATCH_ROWS,
        "table.exec.state.ttl": f"{given['state_s']} s",
        "table.exec.source.idle-timeout": f"{IDLE_MS} ms",
        "state.backend.type": "rocksdb",
        # Nearly every key that is looked for is new: without a filter each look goes through all files.
        "state.backend.rocksdb.use-bloom-filter": "true",
        "taskmanager.memory.managed.size": LOCAL_MEMORY,  # read by a cluster of its own process alone
        "execution.checkpointing.interval": f"{CHECKPOINT_MS} ms",
        "execution.checkpointing.incremental": "true",
        "execution.checkpointing.dir": given["checkpoints"],
        "execution.checkpointing.num-retained": 2,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "restart-strategy.type": "exponential-delay",
    }
    if given["restore"]:
        settings["execution.state-recovery.path"] = given["restore"]
    if given["cluster"]:
        host, _, port = given["cluster"].rpartition(":")
        settings |= {"execution.target": "remote", "rest.address": host, "rest.port": port}
    made = Configuration()
    for name, value in settings.items():
        made.set_string(name, str(value))
    return made


def tables(given: dict[str, Any]) -> list[str]:
    kafka = {f"properties.{name}": value for name, value in given["kafka"].items()}
    source = {
        "connector": "kafka",
        "topic": given["scored"],
        "properties.group.id": given["group"],
        "scan.startup.mode": "earliest-offset",
        **kafka,
    }
    parsed = {
        **source,
        "format": "json",
        "json.ignore-parse-errors": "true",
        "json.timestamp-format.standard": "ISO-8601",
    }
    raw = {**source, "properties.group.id": f"{given['group']}.raw", "format": "raw"}
    counted = {
        "connector": "upsert-kafka",
        "topic": given["windows"],
        "key.format": "json",
        "value.format": "json",
        "sink.buffer-flush.interval": f"{BATCH_MS} ms",
        "sink.buffer-flush.max-rows": str(BATCH_ROWS),
    }
    marks = {"connector": "kafka", "topic": given["marks"], "format": "json"}
    return [
        f"""CREATE TABLE scored (
            `type` STRING, id STRING, story_id STRING, `partition` INT, `offset` BIGINT, replayed BOOLEAN,
            published_at TIMESTAMP_LTZ(6), seen_at TIMESTAMP_LTZ(6), `at` TIMESTAMP_LTZ(6),
            series ARRAY<ARRAY<STRING>>,
            place INT METADATA FROM 'partition' VIRTUAL, number BIGINT METADATA FROM 'offset' VIRTUAL,
            arrived AS PROCTIME(),
            -- A time ahead of the clock does not push the watermark.
            seen AS CASE WHEN COALESCE(seen_at, `at`) <= CURRENT_TIMESTAMP
                THEN CAST(COALESCE(seen_at, `at`) AS TIMESTAMP_LTZ(3)) ELSE TO_TIMESTAMP_LTZ(0, 3) END,
            WATERMARK FOR seen AS seen
        ) WITH ({options(parsed)})""",
        # What is no JSON reaches no other table.
        f"""CREATE TABLE raw_scored (
            content STRING, place INT METADATA FROM 'partition' VIRTUAL, number BIGINT METADATA FROM 'offset' VIRTUAL
        ) WITH ({options(raw)})""",
        f"""CREATE TABLE windows (
            series STRING, start_s BIGINT, articles BIGINT, negative BIGINT, neutral BIGINT, positive BIGINT,
            fresh_negative BIGINT, fresh_neutral BIGINT, fresh_positive BIGINT, score_sum_e4 BIGINT, late BOOLEAN,
            PRIMARY KEY (series, start_s) NOT ENFORCED
        ) WITH ({options({**counted, **kafka})})""",
        f"""CREATE TABLE marks (
            kind STRING, {", ".join(f"`{name}` {kind}" for name, kind in MARK.items())}
        ) WITH ({options({**marks, **kafka})})""",
        # A story's first record, its article's first too, counts with all its series (it names each once): one look at
        # state, however many they are.
        f"""CREATE VIEW records AS
        SELECT id, story_id, series, {epoch_s("published_at")} / 60 * 60 AS start_s,
            published_at + {interval(given["fresh_s"])} >= seen_at AS fresh, arrived, seen,
            COUNT(*) OVER story AS number, FIRST_VALUE(id) OVER story AS first_id,
            FIRST_VALUE(series) OVER story AS first_series
        FROM scored WHERE `type` = 'scored' AND {WHOLE}
        WINDOW story AS (PARTITION BY story_id ORDER BY arrived)""",
        # A later one is looked at by series: behind those of the first, which have counted.
        """CREATE VIEW entries AS
        SELECT story_id, IF(place > CARDINALITY(first_series), id, first_id) AS id, entry[1] AS series,
            entry[2] AS label, TRY_CAST(entry[3] AS BIGINT) AS score_e4, start_s, fresh, arrived, seen,
            place > CARDINALITY(first_series) AS own
        FROM records CROSS JOIN UNNEST(ARRAY_CONCAT(first_series, series)) WITH ORDINALITY AS each_series (entry, place)
        WHERE number > 1""",
        f"""CREATE VIEW parts AS
        SELECT entry[1] AS series, start_s, 1 AS article, entry[2] AS label, TRY_CAST(entry[3] AS BIGINT) AS score_e4,
            fresh, {late(given)} AS late
        FROM records CROSS JOIN UNNEST(series) AS each_series (entry) WHERE number = 1
        UNION ALL
        SELECT series, start_s, 1, '', CAST(0 AS BIGINT), FALSE, {late(given)}
        FROM ({numbered("id")}) WHERE number = 1 AND own
        UNION ALL
        SELECT series, start_s, 0, label, score_e4, fresh, {late(given)}
        FROM ({numbered("story_id")}) WHERE number = 1 AND own""",
    ]


def inserts(given: dict[str, Any]) -> list[str]:
    sums = [f"SUM(CASE WHEN label = '{label}' THEN 1 ELSE 0 END)" for label in COUNTS]
    fresh = [f"SUM(CASE WHEN label = '{label}' AND fresh THEN 1 ELSE 0 END)" for label in COUNTS]
    last = [
        f"MAX(CASE WHEN `type` = 'scored' AND `partition` = {number} THEN `offset` END)"
        for number in range(given["partitions"])
    ]
    return [
        # `late` as a column: as a way of its own it would have keep-first, and its state, twice.
        f"""INSERT INTO windows
        SELECT series, start_s, SUM(article), {", ".join(sums)}, {", ".join(fresh)}, SUM(score_e4),
            MAX(CASE WHEN late THEN 1 ELSE 0 END) = 1
        FROM parts GROUP BY series, start_s""",
        # All that was seen before the end of such a span is on its way to its windows.
        f"""{
            mark(
                "seen",
                at_s=epoch_s("window_end"),
                positions=f"ARRAY[{', '.join(last)}]",
                replayed="MAX(CASE WHEN replayed THEN 1 ELSE 0 END) = 1",
            )
        }
        FROM TABLE(TUMBLE(TABLE scored, DESCRIPTOR(seen), {interval(given["tick_s"])}))
        GROUP BY window_start, window_end""",
        f"""{mark("beat", at_s=epoch_s("`at`"), replayed="replayed", partition="place", offset="number")}
        FROM scored WHERE `type` = 'heartbeat' AND `at` IS NOT NULL""",
        f"""{bad("a field of it is missing or has another type")} FROM scored
        WHERE NOT ((`type` = 'scored' AND {WHOLE}) OR (`type` = 'heartbeat' AND `at` IS NOT NULL)) OR `type` IS NULL""",
        f"{bad('it is no JSON object')} FROM raw_scored WHERE content IS NOT JSON OBJECT",
    ]


def mark(kind: str, **values: str) -> str:
    """The begin of a statement that writes marks of a kind, up to its FROM: what is not given is null."""
    columns = [values.get(name, f"CAST(NULL AS {column})") for name, column in MARK.items()]
    return f"INSERT INTO marks SELECT '{kind}', {', '.join(columns)}"


def bad(reason: str) -> str:
    return mark("bad", partition="place", offset="number", reason=f"'{reason}'")


WHOLE = (
    "id IS NOT NULL AND story_id IS NOT NULL AND published_at IS NOT NULL AND seen_at IS NOT NULL "
    "AND `partition` IS NOT NULL AND `offset` IS NOT NULL AND series IS NOT NULL"
)


def numbered(key: str) -> str:
    """Each series' entries, numbered within a key. By COUNT: of ROW_NUMBER the planner makes a step that it takes to
    change what it has sent, and sums twice as wide.
    """
    return f"SELECT *, COUNT(*) OVER (PARTITION BY series, {key} ORDER BY arrived) AS number FROM entries"


def late(given: dict[str, Any]) -> str:
    """Whether an entry's window is older than what is kept; none is, before there is a watermark."""
    return f"COALESCE(start_s < {epoch_s('CURRENT_WATERMARK(seen)')} - {given['keep_s']}, FALSE)"


def epoch_s(time: str) -> str:
    """Whole seconds since 1970, of a time in UTC."""
    return f"CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', CAST({time} AS TIMESTAMP(3))) AS BIGINT)"


def interval(seconds: float) -> str:
    """A literal; below 100 days."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"INTERVAL '{days} {hours:02}:{minutes:02}:{rest / 1000:06.3f}' DAY TO SECOND(3)"


def options(values: dict[str, str]) -> str:
    quoted = {name: str(value).replace("'", "''") for name, value in values.items()}
    return ", ".join(f"'{name}' = '{value}'" for name, value in quoted.items())


if __name__ == "__main__":
    main()
