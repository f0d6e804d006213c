"""Files that are being written to: a file that grows by lines, or a folder in which files arrive."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from ingest.readers import Line, line_of, read
from moodwire.errors import BadInput

WHOLE = (".csv", ".json", ".gz")  # read when they are complete; all others line by line
PASSED_OVER = (".tmp", ".part", ".swp", "~")  # still being written, by custom
SETTLED = timedelta(seconds=5)  # without a change, after which a file is complete
CHUNK = 4_000_000  # bytes read at once; a longer line is no article
BATCH = 500  # lines stored at once
_TAIL = 256  # bytes before a place, by which a file that was begun anew is told


class Place(msgspec.Struct, frozen=True):
    """How far a file was read."""

    at: int = 0  # bytes; of a whole file: its size
    stamp: str = ""  # of the bytes before it; of a whole file: when it was changed


class Portion(NamedTuple):
    """Lines to store, and the place that is reached with them."""

    lines: list[Line]
    place: Place


def files_at(path: Path) -> list[Path]:
    """The file, or the folder's files, in the order of their names. Raises BadInput where there is neither."""
    try:
        if not path.is_dir():
            path.stat()
            return [path]
        found = [each for each in path.iterdir() if each.is_file() and not each.name.startswith(".")]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    return sorted(each for each in found if not each.name.endswith(PASSED_OVER))


def portions(path: Path, place: Place, now: datetime) -> Iterator[Portion]:
    """What a file holds after a place. Raises BadInput where it cannot be read."""
    try:
        yield from _whole(path, place, now) if path.suffix in WHOLE else _grown(path, place)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _grown(path: Path, place: Place) -> Iterator[Portion]:
    """The lines that were finished since; the last one waits for its end."""
    with path.open("rb") as file:
        # Shorter than it was, or another file: from its beginning. What is known already is told by its id.
        at = place.at if _stamp(file, place.at) == place.stamp else 0
        while True:
            file.seek(at)
            data = file.read(CHUNK)
            end = data.rfind(b"\n") + 1 or (CHUNK if len(data) == CHUNK else 0)
            if not end:
                return
            lines = data[:end].splitlines(keepends=True)
            for first in range(0, len(lines), BATCH):
                found = []
                for line in lines[first : first + BATCH]:
                    found += [line_of(at, line, path.name)] if line.strip() else []
                    at += len(line)
                yield Portion(found, Place(at, _stamp(file, at)))


def _whole(path: Path, place: Place, now: datetime) -> Iterator[Portion]:
    found = path.stat()
    reached = Place(found.st_size, str(found.st_mtime_ns))
    if reached == place or now.timestamp() - found.st_mtime < SETTLED.total_seconds():
        return
    lines = list(read(path))
    for first in range(0, max(len(lines), 1), BATCH):
        yield Portion(lines[first : first + BATCH], reached if first + BATCH >= len(lines) else place)


def _stamp(file: BinaryIO, at: int) -> str:
    """Of the bytes before a place; another one where the file ends before it."""
    start = max(at - _TAIL, 0)
    file.seek(start)
    return hashlib.blake2b(file.read(at - start), digest_size=8).hexdigest() if at else ""
