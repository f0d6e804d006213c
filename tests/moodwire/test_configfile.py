"""The configuration: every fault at once, with its line and its mend."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodwire import symbology
from moodwire.configfile import line_numbers, load
from moodwire.errors import ConfigError
from moodwire.settings import Company, Settings, Webhook

EXAMPLE = Path(__file__).parents[2] / "moodwire.example.toml"


def faults(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    path = folder / "moodwire.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    assert caught.value.exit_code == 2
    return caught.value.faults


def test_no_file_means_the_defaults() -> None:
    assert load(None, {}) == Settings()


def test_kafka_is_set_by_file_and_environment(tmp_path: Path) -> None:
    config = tmp_path / "moodwire.toml"
    config.write_text('[stream]\nkind = "kafka"\n[stream.security]\nsecurity_protocol = "SASL_SSL"\n')
    with pytest.raises(ConfigError) as caught:
        load(config, {})
    assert [fault.split(":")[1] for fault in caught.value.faults] == ["1", "3"]
    config.write_text(config.read_text() + 'sasl_mechanism = "PLAIN"\nsasl_plain_username = "me"\n')
    environ = {"MOODWIRE_STREAM_SERVERS": "a:1, b:2", "MOODWIRE_STREAM_PASSWORD": "p", "MOODWIRE_STREAM_INSTANCE": "x"}
    stream = load(config, environ).stream
    assert (stream.servers, stream.instance) == (("a:1", "b:2"), "x")
    assert (stream.security.sasl_plain_username, stream.security.sasl_plain_password) == ("me", "p")


def test_the_example_is_right_and_has_every_section() -> None:
    settings = load(EXAMPLE, {})
    assert [type(source).__struct_config__.tag for source in settings.sources] == [
        "feed", "feed", "sitemap", "page", "json"
    ]  # fmt: skip
    assert [rule.name for rule in settings.rules] == [
        "companies",
        "market",
        "portfolio mood",
        "everywhere",
        "silent sources",
    ]
    assert set(tomllib.loads(EXAMPLE.read_text())) == set(Settings.__struct_fields__)


def test_three_faults_are_told_at_once_each_with_its_line_and_its_mend(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        '[dashboard]\nport = "many"\n\n[[sources]]\nname = "A"\nurl = "ftp://x"\n\n'
        '[[rules]]\nname = "r"\nwindows_s = 60\n',
    )
    assert len(found) == 3
    assert found[0].startswith("moodwire.toml:2: dashboard.port: Expected int, got str")
    assert "'many'" in found[0]
    assert found[1].startswith("moodwire.toml:6: sources[0].url: ")
    assert "ftp://x" in found[1]
    assert found[2] == "moodwire.toml:10: rules[0].windows_s: unknown; did you mean windows?"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[model\n", "moodwire.toml:1: not TOML"),
        ('[[sources]]\nname = "A"\n', "moodwire.toml:1: sources[0]: url is missing; add url = …"),
        (
            '[[sources]]\nkind = "pigeon"\n',
            "moodwire.toml:1: sources[0]: kind must be one of feed, sitemap, page, json",
        ),
        ("sources = 3\n", "moodwire.toml:1: sources: Expected array, got int, found 3"),
        ("store = 3\n", "moodwire.toml:1: store: expected a table, found 3"),
        ("watchlist = 3\n", "moodwire.toml:1: watchlist: expected a table, found 3"),
        ('[[channels]]\nkind = "pigeon"\n', "moodwire.toml:1: channels[0]: kind must be one of email, webhook"),
        ("[topics]\nthreshold = 2\n", "moodwire.toml:2: topics.threshold: Expected float <= 1.0, found 2"),
        (
            '[[rules]]\nname = "r"\nchannels = ["desk"]\n',
            "moodwire.toml:3: rules[0].channels: there is no channel 'desk'; add it under [[channels]] (now: none)",
        ),
        (
            '[[rules]]\nname = "r"\n[[rules]]\nname = "r"\n',
            "moodwire.toml:4: rules[1].name: 'r' stands here a second time; each needs its own",
        ),
        ("[watchlst]\n", "moodwire.toml:1: watchlst: unknown; did you mean watchlist?"),
        ("[dashboard]\nlogin = 'never'\n", "moodwire.toml:2: dashboard.login: Invalid enum value 'never'"),
        (
            "[dashboard]\nproxies = ['me']\nname_header = 'X'\n",
            "moodwire.toml:2: dashboard.proxies[0]: 'me' is no address",
        ),
        ("[dashboard]\nname_header = 'X-User'\n", "moodwire.toml:1: dashboard: proxies and name_header go together"),
    ],
)
def test_each_kind_of_fault_has_its_words(tmp_path: Path, text: str, fault: str) -> None:
    (found,) = faults(tmp_path, text)
    assert found.startswith(fault)


def test_a_watchlist_file_stands_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("symbol,names,groups\nACME,Acme; Acme Corp,tools;mine\nGLOB,,\n")
    config = tmp_path / "moodwire.toml"
    config.write_text('[watchlist]\nfile = "mine.csv"\n[[watchlist.companies]]\nsymbol = "OWN"\n')
    companies = load(config, {}).watchlist.companies
    assert [company.symbol for company in companies] == ["OWN", "ACME", "GLOB"]
    assert companies[1].names == ("Acme", "Acme Corp")
    assert companies[1].groups == ("tools", "mine")


def test_symbols_bring_their_names_from_the_list_of_companies(tmp_path: Path) -> None:
    config = tmp_path / "moodwire.toml"
    config.write_text(
        '[watchlist]\nsymbols = ["MSFT", "BRK-B"]\n[[watchlist.companies]]\nsymbol = "AAPL"\ngroups = ["mine"]\n'
        '[[watchlist.companies]]\nsymbol = "TSLA"\nnames = ["Tesla Motors"]\n'
    )
    apple, tesla, microsoft, berkshire = load(config, {}).watchlist.companies
    assert (apple.name, apple.names, apple.groups) == ("Apple", ("Apple",), ("mine", "information technology"))
    assert tesla.names == ("Tesla Motors",)
    assert microsoft.names[0] == "Microsoft"
    assert berkshire.names[0] == "Berkshire Hathaway"


def test_all_companies_of_the_list_can_be_followed(tmp_path: Path) -> None:
    config = tmp_path / "moodwire.toml"
    config.write_text('[watchlist]\nall = true\n[[watchlist.companies]]\nsymbol = "OWN"\nnames = ["Own"]\n')
    companies = load(config, {}).watchlist.companies
    assert companies[0].symbol == "OWN"
    assert {company.symbol for company in companies[1:]} == set(symbology.companies())


def test_a_symbol_that_the_list_lacks_needs_names(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, '[watchlist]\nsymbols = ["MSFT", "NOSUCH"]\n')
    assert found == (
        "moodwire.toml:2: watchlist.symbols[1]: 'NOSUCH' is not in moodwire's list of companies; "
        "add [[watchlist.companies]] with its names"
    )


def test_the_list_of_companies_is_sound() -> None:
    """Each row is a company that a configuration may hold, and each name means one of them."""
    owners: dict[str, set[str]] = {}
    for symbol, company in symbology.companies().items():
        assert msgspec.convert(msgspec.to_builtins(company), Company) == company
        assert symbol == company.symbol
        assert company.names or company.words
        for name in (*company.names, *company.words):
            assert name == name.strip()
            owners.setdefault(name.lower(), set()).add(symbol)
    shared = {name for name, symbols in owners.items() if len(symbols) > 1}
    assert shared == {"compass", "kingfisher"}, "two companies truly bear these"


def test_faults_in_a_watchlist_file_name_its_lines(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("symbol,names\nACME,Acme\nbad symbol,\n")
    (found,) = faults(tmp_path, '[watchlist]\nfile = "mine.csv"\n')
    assert found.startswith("moodwire.toml:2: watchlist.file: mine.csv, line 3: symbol: ")
    (found,) = faults(tmp_path, '[watchlist]\nfile = "other.csv"\n')
    assert "other.csv cannot be read" in found


def test_secrets_and_overrides_come_from_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "moodwire.toml"
    config.write_text('[[channels]]\nkind = "webhook"\nname = "my hook"\nurl = "https://example.test/"\n')
    environ = {
        "MOODWIRE_CHANNEL_MY_HOOK_SECRET": "s3cret",
        "MOODWIRE_DASHBOARD_PORT": "9000",
        "MOODWIRE_STORE_URL": "sqlite:///x.db",
    }
    settings = load(config, environ)
    (hook,) = settings.channels
    assert isinstance(hook, Webhook)
    assert hook.secret == "s3cret"
    assert settings.dashboard.port == 9000
    assert settings.store.url == "sqlite:///x.db"


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss/word\n")
    environ = {
        "MOODWIRE_STORE_URL": "postgresql+psycopg://moodwire@db/moodwire",
        "MOODWIRE_STORE_PASSWORD_FILE": str(tmp_path / "password"),
        "MOODWIRE_METRICS_HOST": "0.0.0.0",
        "MOODWIRE_METRICS_PORT": "9500",
    }
    settings = load(None, environ)
    assert settings.store.url == "postgresql+psycopg://moodwire:p%40ss%2Fword@db/moodwire"
    assert (settings.metrics.host, settings.metrics.port) == ("0.0.0.0", 9500)
    with pytest.raises(ConfigError, match=r"MOODWIRE_STORE_PASSWORD_FILE: .*nowhere cannot be read"):
        load(None, {"MOODWIRE_STORE_PASSWORD_FILE": str(tmp_path / "nowhere")})


def test_a_wrong_environment_is_a_fault_too(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "", {"MOODWIRE_DASHBOARD_PORT": "many"})
    assert "dashboard.port" in found


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "moodwire.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "moodwire.toml", {})


def test_lines_are_found_through_tables_of_tables() -> None:
    text = '# c\n[[a]]\nx = 1\n[[a]]\n"y" = 2 # n\n[b.c]\nz = [\n 1,\n]\n'
    assert line_numbers(text) == {
        (): 1, ("a", 0): 2, ("a", 0, "x"): 3, ("a", 1): 4, ("a", 1, "y"): 5, ("b", "c"): 6, ("b", "c", "z"): 7
    }  # fmt: skip


NAMES = st.sampled_from(
    [*Settings.__struct_fields__, "name", "kind", "url", "file", "companies", "symbol", "port", "channels", "x"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(-5, 10**6), st.booleans(), st.floats(-1, 1), st.text("ab:/.*", max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_whatever_stands_in_the_file_is_loaded_or_named(tmp_path_factory: pytest.TempPathFactory, raw: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("".join(f"{name} = {toml(value)}\n" for name, value in raw.items()))
    environ = {"MOODWIRE_STORE_URL": "sqlite://", "MOODWIRE_DASHBOARD_PORT": "1", "MOODWIRE_CHANNEL_A_SECRET": "s"}
    try:
        assert isinstance(load(path, environ), Settings)
    except ConfigError as error:
        assert all(fault.startswith("any.toml:") for fault in error.faults)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)
