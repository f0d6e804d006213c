"""What `moodwire.toml` may say: the shape, the defaults and the units. Reading and checking it is in configfile.py."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

from moodwire.access import Role

Seconds = Annotated[float, msgspec.Meta(gt=0)]
WindowLength = Annotated[float, msgspec.Meta(ge=60, le=604_800)]  # seconds
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._&-]{0,63}$")]
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s]+$")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


Display = Literal["title", "excerpt", "full"]


class Source(Section, frozen=True, kw_only=True, tag_field="kind", tag="feed"):
    """A feed to watch: RSS, Atom or JSON Feed. `articles` says whether the linked page is fetched for the text."""

    name: Name
    url: Url
    interval_s: Seconds = 300
    articles: bool = True
    display: Display = "full"  # how much of a text its licence lets us show to readers


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


class Files(Source, frozen=True, kw_only=True, tag="files"):
    """A file that grows by lines, or a folder in which files arrive: JSONL, CSV, JSON lists, gzipped or not."""

    url: Annotated[str, msgspec.Meta(pattern=r"^file:///[^\s]+$")]
    interval_s: Seconds = 5
    articles: bool = False

    @property
    def path(self) -> Path:
        return Path(url2pathname(urlsplit(self.url).path))


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


class KafkaTopic(Source, frozen=True, kw_only=True, tag="kafka"):
    """A topic of yours with news in it, JSON objects. The fields are dotted paths in a record."""

    url: Annotated[str, msgspec.Meta(pattern=r"^kafka://[^/\s]+/[A-Za-z0-9._-]+$")]  # kafka://host:9092,host:9092/topic
    interval_s: Seconds = 5
    articles: bool = False
    title: str = "title"
    body: str = ""
    address: str = ""
    id: str = ""
    publisher: str = ""  # who brought it; empty: the source's name
    language: str = ""
    tickers: str = ""  # a list, or a text with spaces or commas between
    published_at: str = ""  # empty, or not there: the record's own time
    time_format: str = (
        ""  # ISO 8601 or seconds since 1970; ms: milliseconds; else as for strptime, UTC if it has no zone
    )
    security: Security | None = None  # none: that of [stream.security]

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(urlsplit(self.url).netloc.split(","))

    @property
    def topic(self) -> str:
        return urlsplit(self.url).path.removeprefix("/")


AnySource = Source | Sitemap | ListPage | JsonApi | Files | KafkaTopic


class Company(Section, frozen=True, kw_only=True):
    symbol: Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9][A-Z0-9.&\-]{0,15}$")]
    names: tuple[str, ...] = ()  # none: those that moodwire's own list has for the symbol, and its words and sector
    words: tuple[str, ...] = ()  # names that mean something else too: they count only where the text shows the company
    groups: tuple[Name, ...] = ()  # sector, portfolio …

    @property
    def name(self) -> str:
        """The usual one."""
        return next(iter((*self.names, *self.words)), self.symbol)


class Watchlist(Section, frozen=True, kw_only=True):
    symbols: tuple[str, ...] = ()  # companies of moodwire's own list, by symbol
    all: bool = False  # follow every company of moodwire's own list
    file: str = ""  # CSV with the columns symbol, names, groups (`;` between several); beside the configuration file
    companies: tuple[Company, ...] = ()


class Topics(Section, frozen=True, kw_only=True):
    threshold: Share = 0.5  # an article counts for a topic from this probability on


class Windows(Section, frozen=True, kw_only=True):
    engine: Literal["one-machine", "flink"] = "one-machine"
    tick_s: Seconds = 2.0  # how often the alarms look
    fresh_s: Seconds = 7200.0  # seen within this of its publication


Severity = Literal["info", "warning", "critical"]


class Rule(Section, frozen=True, kw_only=True, tag_field="kind", tag="surge"):
    """A surge of negative stories: the counts of the last `windows`, each against what the baseline expects."""

    name: Name
    series: tuple[str, ...] = ("entity:*", "topic:*", "all")  # exact names or prefix:*
    false_alarms_per_week: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0  # of the whole rule, in quiet times
    windows: Annotated[tuple[WindowLength, ...], msgspec.Meta(min_length=1)] = (900.0, 3600.0, 14_400.0, 86_400.0)
    minimum_stories: Annotated[int, msgspec.Meta(ge=1)] = 4
    baseline_days: Annotated[float, msgspec.Meta(ge=1, le=365)] = 28.0
    timezone: str = "America/New_York"  # of the market: its hours of the week are compared
    cooldown_s: Seconds = 3600.0  # quiet this long before it resolves, and before it may fire again
    pending_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # must hold this long before it fires
    severity: Severity = "warning"
    channels: tuple[str, ...] = ()  # all, if none is named


class PlainRule(Section, frozen=True, kw_only=True, tag_field="kind"):
    """What the plain rules share: they know no usual."""

    name: Name
    series: tuple[str, ...] = ("entity:*", "topic:*", "all")  # exact names or prefix:*
    cooldown_s: Seconds = 3600.0
    pending_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    severity: Severity = "warning"
    channels: tuple[str, ...] = ()


class StoryRule(PlainRule, frozen=True, kw_only=True):
    """Those that look at the fresh stories of the last `window_s`, and at nothing before."""

    window_s: Seconds = 3600.0


class ScoreRule(StoryRule, frozen=True, kw_only=True, tag="score"):
    """The mean score of at least `minimum_stories` stories is below `below`."""

    below: Annotated[float, msgspec.Meta(ge=-1, le=1)]
    minimum_stories: Annotated[int, msgspec.Meta(ge=1)] = 4


class ShareRule(StoryRule, frozen=True, kw_only=True, tag="share"):
    """The share of negative ones among at least `minimum_stories` stories is above `above`."""

    above: Share
    minimum_stories: Annotated[int, msgspec.Meta(ge=1)] = 4


class ArticleRule(StoryRule, frozen=True, kw_only=True, tag="article"):
    """Any article of a topic about one of the series' companies or groups."""

    topic: str
    series: tuple[str, ...] = ("entity:*",)


class PickupRule(StoryRule, frozen=True, kw_only=True, tag="pickup"):
    """One story carried by `sources` sources or more within `window_s`."""

    sources: Annotated[int, msgspec.Meta(ge=2)]


class SilenceRule(PlainRule, frozen=True, kw_only=True, tag="silence"):
    """Nothing comes any more from a source, as ingest judges it by the source's usual."""

    series: tuple[str, ...] = ("source:*",)


AnyStoryRule = ScoreRule | ShareRule | ArticleRule | PickupRule
AnyPlainRule = ScoreRule | ShareRule | ArticleRule | PickupRule | SilenceRule
AnyRule = Rule | ScoreRule | ShareRule | ArticleRule | PickupRule | SilenceRule


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


class AppriseService(Section, frozen=True, kw_only=True, tag_field="kind", tag="apprise"):
    """Any service that Apprise knows: Slack, Teams, Telegram, DingTalk, Feishu, WeCom …"""

    name: Name
    url: str  # in Apprise's manner, slack://…; better: MOODWIRE_CHANNEL_<NAME>_URL


AnyChannel = Email | Webhook | AppriseService
Clock = Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Notifications(Section, frozen=True, kw_only=True):
    """When a group of incidents is told of; each channel has groups of its own. As in Prometheus Alertmanager."""

    group_by: tuple[Literal["rule", "series", "severity"], ...] = ("rule",)
    group_wait_s: Annotated[float, msgspec.Meta(ge=0)] = 10.0  # from a change to the message, for more to join
    group_interval_s: Annotated[float, msgspec.Meta(ge=0)] = 300.0  # between two messages of a group
    repeat_interval_s: Seconds = 14_400.0  # after which an incident that goes on, unacknowledged, is told again


class QuietHours(Section, frozen=True, kw_only=True):
    """Hours in which alarms are evaluated and not sent; what still fires at their end is sent then."""

    name: Name
    start: Clock
    end: Clock  # the next day's, if not after the start
    days: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # on which they start
    timezone: str = "UTC"
    rules: tuple[str, ...] = ()  # all, if none is named
    severities: tuple[Severity, ...] = ("info", "warning", "critical")


class Store(Section, frozen=True, kw_only=True):
    url: str = ""  # SQLAlchemy address; empty: moodwire.db in the data folder


class Stream(Section, frozen=True, kw_only=True):
    kind: Literal["embedded", "kafka"] = "embedded"
    servers: tuple[str, ...] = ()  # host:port; Kafka only, as all that follows
    prefix: str = "moodwire."  # before the names of topics and groups
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1  # of topics that are not there yet
    replication: Annotated[int, msgspec.Meta(ge=-1)] = -1  # copies of each; -1: as the broker is set
    instance: str = ""  # this classifier's name among those that share the work; empty: the host's
    security: Security = Security()


class Flink(Section, frozen=True, kw_only=True):
    """Where the windows' Flink job runs. Paths are beside the configuration file."""

    python: str = ".venv-flink/bin/python"  # of the environment with apache-flink
    connector: str = ".services/flink/flink-sql-connector-kafka.jar"
    cluster: str = ""  # host:port of a JobManager; empty: a small cluster that starts and stops with the stage
    parallelism: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    checkpoints: str = ""  # address of a folder that all of the cluster reaches; empty: flink/ in the data folder


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
    """Where the pages and the API are served, and who may see them: docs/access.md."""

    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"  # beyond loopback a login is asked for
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8050
    login: Literal["off-host", "always"] = "off-host"  # always: on loopback too
    origin: Annotated[str, msgspec.Meta(pattern=r"^(https?://[^/\s]+)?$")] = ""  # as browsers see it, behind a proxy
    proxies: tuple[str, ...] = ()  # addresses of proxies that are believed
    name_header: str = ""  # in which they say who is asking: they have logged them in
    proxy_role: Role = "analyst"  # of those whom they name


class Metrics(Section, frozen=True, kw_only=True):
    """Where each stage serves /metrics and /health."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65530)] = 9180  # ingest's; the others' follow; 0: none


class Heartbeat(Section, frozen=True, kw_only=True):
    """The sign of life that the alerts stage gives while every stage is alive: whoever misses it wakes somebody."""

    url: str = ""  # gets a POST
    file: str = ""  # is written anew
    interval_s: Seconds = 60.0


class Log(Section, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Fetching(Section, frozen=True, kw_only=True):
    timeout_s: Seconds = 20.0
    max_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 5_000_000
    user_agent: str = "moodwire/0.1 (news monitor)"
    contact: str = ""  # an address or e-mail, told to every host in the User-Agent
    host_delay_s: Annotated[float, msgspec.Meta(ge=0)] = (
        1.0  # between two requests to one host; robots.txt may ask for more
    )
    allow_private: bool = False  # fetch from loopback and private addresses too


class Settings(Section, frozen=True, kw_only=True):
    sources: tuple[AnySource, ...] = ()
    watchlist: Watchlist = Watchlist()
    topics: Topics = Topics()
    windows: Windows = Windows()
    rules: tuple[AnyRule, ...] = ()
    channels: tuple[AnyChannel, ...] = ()
    notifications: Notifications = Notifications()
    quiet_hours: tuple[QuietHours, ...] = ()
    store: Store = Store()
    stream: Stream = Stream()
    flink: Flink = Flink()
    model: Model = Model()
    retention: Retention = Retention()
    dashboard: Dashboard = Dashboard()
    fetching: Fetching = Fetching()
    metrics: Metrics = Metrics()
    heartbeat: Heartbeat = Heartbeat()
    log: Log = Log()


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
