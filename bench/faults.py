"""What is lost or doubled when things break: seeded faults in replays on both streams and both stores.

./run bench faults [--faults 100] [--seed 0]
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults import flow
from tests.faults.flow import LOCAL, Kind, differences, plan_of, run

KINDS = (
    LOCAL,
    Kind("kafka", "postgresql", partitions=3),
    Kind("kafka", "postgresql"),
    Kind("embedded", "postgresql"),
    Kind("kafka", "sqlite"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100, help="at least so many")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    options = parser.parse_args()
    flow.LIMIT_S = 1800.0  # however busy the machine is
    struck: Counter[str] = Counter()
    lost = doubled = unburied = 0
    with tempfile.TemporaryDirectory() as folder:
        peace = run(Path(folder) / "peace")
        rows = sum(len(rows) for rows in peace.content.values())
        print(f"left in peace: {rows} rows of {', '.join(peace.content)}", flush=True)
        for seed in itertools.count(options.seed):
            if sum(struck.values()) >= options.faults:
                break
            kind = KINDS[seed % len(KINDS)]
            plan = plan_of(seed, kind)
            began = time.perf_counter()
            found = run(Path(folder) / str(seed), kind, plan)
            wrong = differences(peace.content, found.content, peace.content)
            gone, more = (sum(len(each[at]) for each in wrong.values()) for at in (0, 1))
            missed = len(found.buried ^ found.poison)
            lost, doubled, unburied = lost + gone, doubled + more, unburied + missed
            for fault in plan:
                if "records in hand" in found.hits[fault.number]:
                    struck[fault.kind] += 1
            struck["a stretch of input twice"] += 1
            took = f"{found.falls} falls, {time.perf_counter() - began:.0f} s"
            print(f"seed {seed}, {kind}: {len(plan) + 1} faults, {took}; lost {gone}, doubled {more}", flush=True)
            for table, (less, extra) in wrong.items():
                print(f"  {table}: lost {less[:3]}, doubled {extra[:3]}")
    print("each with records in hand: " + ", ".join(f"{count} × {kind}" for kind, count in struck.most_common()))
    print(f"{sum(struck.values())} faults: {lost} rows lost, {doubled} doubled (goal 0 and 0 over 100 faults)")
    print(f"poisoned records that were not set aside, or others that were: {unburied} (goal 0)")
    sys.exit(bool(lost or doubled or unburied))


if __name__ == "__main__":
    main()
