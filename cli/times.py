"""Times as they are given on the command line."""

from datetime import datetime

from ingest.readers import time_of
from moodwire.errors import BadInput


def given_time(text: str | None) -> datetime | None:
    """None where none was given. Raises BadInput."""
    try:
        return time_of(text)
    except ValueError as error:
        raise BadInput(f"{error}, for example 2014-01-31 or 2014-01-31T09:30:00Z") from error
