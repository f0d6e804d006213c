"""What can be asked of the API: the parameters, with their limits."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from moodwire import answers
from moodwire.tables import Format

TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"
FIRST, LAST = 1970, 2200  # years


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("no time; write it as 2026-03-01T09:30:00Z") from None
    if not FIRST < time.year < LAST:
        raise ValueError(f"a year between {FIRST} and {LAST}, please")
    return answers.utc(time)


Moment = Annotated[datetime, BeforeValidator(_moment)]
Name = Annotated[str, Field(max_length=300, pattern=TEXT)]
FORMAT = Field(None, description="json, csv, parquet or arrow; else what `Accept` asks for, else json")
AS_OF = Field(
    None, description="as it was known then, UTC; exact for times more than 10 s ago", examples=["2026-03-02T15:00:00Z"]
)
SERIES = Field(
    "all",
    description="`all`, `topic:X`, `entity:Y` (or the symbol alone), `group:Z`, `source:N`, or several joined by `+`: "
    "the stories that count for each, with the label and score they have for the first",
    examples=["AAPL"],
)


class Asked(BaseModel):
    """What is not named here is refused, so that a slip is told."""

    model_config = ConfigDict(extra="forbid")

    format: Format | None = FORMAT


class Paged(Asked):
    limit: int = Field(100, ge=1, le=answers.PAGE, description="rows of a page")
    cursor: Annotated[str, Field(max_length=1000, pattern=r"^[A-Za-z0-9_-]+$")] | None = Field(
        None, description="where the page begins: what the page before gave as `next`"
    )


class AskedSentiment(Asked):
    series: Annotated[list[Name], Field(min_length=1, max_length=answers.COMPARED)] = Field(
        ["all"], description=f"up to {answers.COMPARED}, each as in /stories", examples=[["AAPL", "topic:legal"]]
    )
    freq: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}(min|h|d)$")] = Field(
        "1h", description="length of a span: whole minutes, hours or days", examples=["1h", "15min", "1d"]
    )
    start: Moment | None = Field(None, description="UTC; by default a week before the end")
    end: Moment | None = Field(None, description="UTC; by default now, or `as_of`")
    as_of: Moment | None = AS_OF


class AskedStories(Paged):
    series: Name = SERIES
    label: Literal["", "negative", "neutral", "positive"] = Field("", description="towards the series")
    source: Name = Field("", description="only articles of this source")
    words: Name = Field(
        "", description='in title or text: words, "phrases", -without', examples=['recall "brake fluid"']
    )
    start: Moment | None = Field(None, description="published at or after this, to the minute, UTC")
    end: Moment | None = Field(None, description="published before this, to the minute, UTC")
    as_of: Moment | None = AS_OF


class AskedSearch(AskedStories):
    words: Annotated[Name, Field(min_length=1)] = Field(
        description='in title or text: words, "phrases", -without', examples=['recall "brake fluid"']
    )


class AskedIncidents(Paged):
    series: Name | None = Field(None, description="exactly this one", examples=["entity:AAPL"])
    state: Literal["pending", "firing", "acknowledged", "resolved"] | None = None
    start: Moment | None = Field(None, description="lasted beyond this, UTC")
    end: Moment | None = Field(None, description="began before this, UTC")


class AskedNow(Paged):
    hours: int = Field(24, ge=1, le=24 * 366, description="length of the span up to now")


class AskedLive(BaseModel):
    model_config = ConfigDict(extra="forbid")

    series: Name | None = Field(None, description="only what counts for exactly this series", examples=["entity:AAPL"])
