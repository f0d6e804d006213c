"""What `moodwire.toml` may say: the shape, the defaults and the units. Reading and checking it is in configfile.py."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._&-]{0,63}$")]
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s]+$")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Source(Section, frozen=True, kw_only=True, tag_field="kind", tag="feed"):
    """A feed to watch: RSS, Atom or JSON Feed. `articles` says whether the linked page is fetched for the text."""

    name: Name
    url: Url
    interval_s: Seconds = 300
    articles: bool = True


class Sitemap(Source, frozen=True, kw_only=True, tag="sitemap"):
    """A sitemap, best one for news; only what it says was published or changed in the last days is looked at."""

    newest_days: Seconds = 2.0


class ListPage(Source, frozen=True, kw_only=True, tag="page"):
    """A page that links to its articles."""

    selector: str = "a"  # CSS, of the links


class JsonApi(Source, frozen=True, kw_only=True, tag="json"):
    """An address that answers in JSON. The fields are dotted paths in an item."""

    items: str = ""  # dotted path to the list; empty: the answer is the list
    title: str = "title"
    address: str = "url"
    body: str = ""
    published_at: str = ""  # ISO 8601 or seconds since 1970
    id: str = ""


AnySource = Source | Sitemap | ListPage | JsonApi


class Company(Section, frozen=True, kw_only=True):
    symbol: Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9][A-Z0-9.\-]{0,15}$")]
    names: tuple[str, ...] = ()
    groups: tuple[Name, ...] = ()  # sector, portfolio …


class Watchlist(Section, frozen=True, kw_only=True):
    file: str = ""  # CSV with the columns symbol, names, groups (`;` between several); beside the configuration file
    companies: tuple[Company, ...] = ()


class Topics(Section, frozen=True, kw_only=True):
    threshold: Share = 0.5  # an article counts for a topic from this probability on


class Windows(Section, frozen=True, kw_only=True):
    tick_s: Seconds = 2.0  # how often the alarms look
    fresh_s: Seconds = 7200.0  # seen within this of its publication


class Rule(Section, frozen=True, kw_only=True):
    """A surge of negative stories: the count in the last `window_s` against what the baseline expects."""

    name: Name
    series: tuple[str, ...] = ("entity:*", "topic:*", "all")  # exact names or prefix:*
    window_s: Seconds = 3600.0
    minimum_stories: Annotated[int, msgspec.Meta(ge=1)] = 4
    tail: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-5  # fires when P(count >= observed) is at most this
    baseline_days: Annotated[float, msgspec.Meta(gt=0, le=365)] = 14.0
    cooldown_s: Seconds = 3600.0  # quiet this long before it resolves, and before it may fire again
    channels: tuple[str, ...] = ()  # all, if none is named


class Email(Section, frozen=True, kw_only=True, tag_field="kind", tag="email"):
    name: Name
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: str = ""  # better: MOODWIRE_CHANNEL_<NAME>_PASSWORD
    sender: str
    recipients: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Webhook(Section, frozen=True, kw_only=True, tag_field="kind", tag="webhook"):
    name: Name
    url: Url
    secret: str = ""  # better: MOODWIRE_CHANNEL_<NAME>_SECRET; signs each message


class Store(Section, frozen=True, kw_only=True):
    url: str = ""  # SQLAlchemy address; empty: moodwire.db in the data folder


class Security(Section, frozen=True, kw_only=True):
    """How to speak to Kafka; given to kafka-python as it is."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_plain_username: str | None = None
    sasl_plain_password: str | None = None  # better: MOODWIRE_STREAM_PASSWORD
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = None
    ssl_check_hostname: bool = True


class Stream(Section, frozen=True, kw_only=True):
    kind: Literal["embedded", "kafka"] = "embedded"
    servers: tuple[str, ...] = ()  # host:port; Kafka only, as all that follows
    prefix: str = "moodwire."  # before the names of topics and groups
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1  # of topics that are not there yet
    replication: Annotated[int, msgspec.Meta(ge=-1)] = -1  # copies of each; -1: as the broker is set
    instance: str = ""  # this classifier's name among those that share the work; empty: the host's
    security: Security = Security()


class Model(Section, frozen=True, kw_only=True):
    engine: Literal["auto", "openvino", "torch", "dummy"] = "auto"  # auto: torch where there is a GPU, else openvino
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: as many as there are cores
    batch: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 512  # articles taken at once


class Retention(Section, frozen=True, kw_only=True):
    """Days for which things are kept."""

    stream_days: Seconds = 7.0
    articles_days: Seconds = 365.0
    scores_days: Seconds = 1095.0


class Dashboard(Section, frozen=True, kw_only=True):
    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"  # loopback: it has no login yet
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8050


class Fetching(Section, frozen=True, kw_only=True):
    timeout_s: Seconds = 20.0
    max_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 5_000_000
    user_agent: str = "moodwire/0.1 (news monitor)"
    host_delay_s: Annotated[float, msgspec.Meta(ge=0)] = (
        1.0  # between two requests to one host; robots.txt may ask for more
    )
    allow_private: bool = False  # fetch from loopback and private addresses too


class Settings(Section, frozen=True, kw_only=True):
    sources: tuple[AnySource, ...] = ()
    watchlist: Watchlist = Watchlist()
    topics: Topics = Topics()
    windows: Windows = Windows()
    rules: tuple[Rule, ...] = ()
    channels: tuple[Email | Webhook, ...] = ()
    store: Store = Store()
    stream: Stream = Stream()
    model: Model = Model()
    retention: Retention = Retention()
    dashboard: Dashboard = Dashboard()
    fetching: Fetching = Fetching()


class Place(msgspec.Struct, frozen=True):
    """Where a run keeps its things."""

    data: Path
    config: Path | None = None

    @property
    def log(self) -> Path:
        return self.data / "log"

    def store_url(self, settings: Settings) -> str:
        return settings.store.url or f"sqlite:///{(self.data / 'moodwire.db').resolve()}"


def days(count: float) -> timedelta:
    return timedelta(days=count)


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""
