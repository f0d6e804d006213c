"""Reading `moodwire.toml`: all faults at once, each with its line and its mend."""

import csv
import difflib
import ipaddress
import re
import tomllib
import types
import typing
import zoneinfo
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from moodwire import symbology
from moodwire.errors import ConfigError
from moodwire.settings import Company, Settings

Keys = tuple[str | int, ...]
_HEADER = re.compile(r"^\s*\[(\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_\-]+|"[^"]+"|'[^']+')\s*=""")


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings in a file (None: the defaults), with what the environment sets.

    Raises ConfigError with every fault found, each as `file:line: key: what is wrong; what to do`.
    """
    text, name = "", "moodwire.toml"
    if path is not None:
        name = path.name
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = line.group(1) if line else str(text.count("\n") + 1)
        raise ConfigError([f"{name}:{where}: not TOML: {error}"]) from error
    lines = line_numbers(text)
    _from_environment(raw, _with_files(environ))
    _kind_by_default(raw, "sources", "feed")
    _kind_by_default(raw, "rules", "surge")
    faults = [(keys, what) for keys, what in _check(raw, Settings, ())]
    if not faults:
        raw, more = _with_watchlist_file(raw, path.parent if path else Path())
        faults += [*more, *_unknown_symbols(raw), *_relations(raw)]
    if faults:
        told = sorted({(_line(lines, keys), f"{_dotted(keys)}: {what}") for keys, what in faults})
        raise ConfigError([f"{name}:{line}: {what}" for line, what in told])
    return _followed(msgspec.convert(raw, Settings))


def line_numbers(text: str) -> dict[Keys, int]:
    """The line, from 1, on which each table and key of a TOML text stands."""
    found: dict[Keys, int] = {(): 1}
    counts: dict[Keys, int] = {}
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = tuple(part.strip().strip("\"'") for part in header.group(2).split("."))
            if header.group(1):
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, key.group(1).strip("\"'")), number)
    return found


def _line(lines: Mapping[Keys, int], keys: Keys) -> int:
    while keys not in lines:
        keys = keys[:-1]
    return lines[keys]


def _dotted(keys: Keys) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".") or "file"


def _check(value: Any, kind: Any, keys: Keys) -> Iterator[tuple[Keys, str]]:
    """Every fault in a value that should be of a kind."""
    struct = _struct(kind, value)
    if isinstance(struct, str):
        yield keys, struct
    elif struct is not None and isinstance(value, dict):
        yield from _check_struct(value, struct, keys)
    elif _item_kind(kind) is not None and isinstance(value, list):
        for at, item in enumerate(value):
            yield from _check(item, _item_kind(kind), (*keys, at))
        if not any(True for at, item in enumerate(value) for _ in _check(item, _item_kind(kind), (*keys, at))):
            yield from _convert(value, kind, keys)
    else:
        yield from _convert(value, kind, keys)


def _check_struct(value: dict[str, Any], struct: type[msgspec.Struct], keys: Keys) -> Iterator[tuple[Keys, str]]:
    hints = typing.get_type_hints(struct, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    for name in value:
        if name not in fields and name != tag:
            near = difflib.get_close_matches(name, fields, 1)
            mend = f"did you mean {near[0]}?" if near else f"known are: {', '.join(fields)}"
            yield (*keys, name), f"unknown; {mend}"
    for name, field in fields.items():
        if name in value:
            yield from _check(value[name], hints[field.name], (*keys, name))
        elif field.required:
            yield keys, f"{name} is missing; add {name} = …"


def _convert(value: Any, kind: Any, keys: Keys) -> Iterator[tuple[Keys, str]]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield keys, f"{str(error).replace('`', '')}, found {value!r:.60}"


def _struct(kind: Any, value: Any) -> type[msgspec.Struct] | str | None:
    """The struct that a table should be, or what is wrong with its kind; None if the kind is no struct."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    structs = [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    if not structs:
        return None
    if not isinstance(value, dict):
        return f"expected a table, found {value!r:.60}"
    if len(structs) == 1:
        return structs[0]
    tags = {str(struct.__struct_config__.tag): struct for struct in structs}
    field = structs[0].__struct_config__.tag_field
    if value.get(str(field)) not in tags:
        return f"{field} must be one of {', '.join(tags)}"
    return tags[value[str(field)]]


def _item_kind(kind: Any) -> Any:
    """Of `tuple[X, ...]`: X."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None


def _kind_by_default(raw: dict[str, Any], section: str, kind: str) -> None:
    """The kind of what does not name it."""
    found = raw.get(section)
    for item in found if isinstance(found, list) else []:
        if isinstance(item, dict):
            item.setdefault("kind", kind)


def _with_files(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, with what stands in files that MOODWIRE_…_FILE name: secrets come so. Raises ConfigError."""
    found = dict(environ)
    for name, path in environ.items():
        if name.startswith("MOODWIRE_") and name.endswith("_FILE"):
            try:
                found[name.removesuffix("_FILE")] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError([f"{name}: {path} cannot be read: {error}"]) from error
    return found


def _from_environment(raw: dict[str, Any], environ: Mapping[str, str]) -> None:
    url, port = environ.get("MOODWIRE_STORE_URL"), environ.get("MOODWIRE_DASHBOARD_PORT")
    store, dashboard = raw.setdefault("store", {}), raw.setdefault("dashboard", {})
    stream = raw.setdefault("stream", {})
    if isinstance(stream, dict):
        if servers := environ.get("MOODWIRE_STREAM_SERVERS"):
            stream["servers"] = [server.strip() for server in servers.split(",")]
        if instance := environ.get("MOODWIRE_STREAM_INSTANCE"):
            stream["instance"] = instance
        security = stream.setdefault("security", {}) if environ.get("MOODWIRE_STREAM_PASSWORD") else None
        if isinstance(security, dict):
            security["sasl_plain_password"] = environ["MOODWIRE_STREAM_PASSWORD"]
    if url and isinstance(store, dict):
        store["url"] = url
    if (password := environ.get("MOODWIRE_STORE_PASSWORD")) and isinstance(store, dict):
        store["url"] = _with_password(str(store.get("url", "")), password)
    _metrics_from_environment(raw.setdefault("metrics", {}), environ)
    if port and isinstance(dashboard, dict):
        dashboard["port"] = int(port) if port.isdecimal() else port
    channels = raw.get("channels", [])
    for channel in channels if isinstance(channels, list) else []:
        if isinstance(channel, dict):
            stem = "MOODWIRE_CHANNEL_" + re.sub(r"\W", "_", str(channel.get("name", ""))).upper()
            for field in ("password", "secret", *(["url"] if channel.get("kind") == "apprise" else [])):
                if secret := environ.get(f"{stem}_{field.upper()}"):
                    channel[field] = secret


def _with_password(url: str, password: str) -> str:
    """An address that names a user, with the password of that user."""
    before, at, host = url.rpartition("@")
    return f"{before}:{quote(password, safe='')}@{host}" if at else url


def _metrics_from_environment(metrics: Any, environ: Mapping[str, str]) -> None:
    host, port = environ.get("MOODWIRE_METRICS_HOST"), environ.get("MOODWIRE_METRICS_PORT")
    if host and isinstance(metrics, dict):
        metrics["host"] = host
    if port and isinstance(metrics, dict):
        metrics["port"] = int(port) if port.isdecimal() else port


def _with_watchlist_file(raw: dict[str, Any], folder: Path) -> tuple[dict[str, Any], list[tuple[Keys, str]]]:
    watchlist = raw.get("watchlist", {})
    if not watchlist.get("file"):
        return raw, []
    path = folder / watchlist["file"]
    companies: list[dict[str, Any]] = []
    faults: list[tuple[Keys, str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                names = _several(row.get("names"))
                company = {
                    "symbol": (row.get("symbol") or "").strip(),
                    "names": [name for name in names if not name.startswith("~")],
                    "words": [name.removeprefix("~") for name in names if name.startswith("~")],
                    "groups": _several(row.get("groups")),
                }
                companies.append(company)
                faults += [
                    (("watchlist", "file"), f"{path.name}, line {number}: {_dotted(keys)}: {what}")
                    for keys, what in _check(company, Company, ())
                ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return raw, [(("watchlist", "file"), f"{path} cannot be read: {error}; give a CSV with symbol,names,groups")]
    merged = {**watchlist, "companies": [*watchlist.get("companies", []), *companies]}
    return {**raw, "watchlist": merged}, faults


def _unknown_symbols(raw: dict[str, Any]) -> Iterator[tuple[Keys, str]]:
    for at, symbol in enumerate(raw.get("watchlist", {}).get("symbols", [])):
        if symbol not in symbology.companies():
            yield (
                ("watchlist", "symbols", at),
                f"{symbol!r} is not in moodwire's list of companies; add [[watchlist.companies]] with its names",
            )


def _followed(settings: Settings) -> Settings:
    """With all companies of the watchlist, those that stand there by their symbol alone with what the list has.

    The list is read only where it is needed: that takes longer than all else here.
    """
    watchlist = settings.watchlist
    found = {company.symbol: company for company in watchlist.companies}
    for company in watchlist.companies:
        if not (company.names or company.words) and (own := symbology.companies().get(company.symbol)):
            groups = tuple(dict.fromkeys((*company.groups, *own.groups)))
            found[company.symbol] = msgspec.structs.replace(own, groups=groups)
    for symbol in symbology.companies() if watchlist.all else watchlist.symbols:
        found.setdefault(symbol, symbology.companies()[symbol])
    companies = msgspec.structs.replace(watchlist, companies=tuple(found.values()))
    return msgspec.structs.replace(settings, watchlist=companies)


def _several(cell: str | None) -> list[str]:
    return [part.strip() for part in (cell or "").split(";") if part.strip()]


def _relations(raw: dict[str, Any]) -> Iterator[tuple[Keys, str]]:
    """What must hold between parts of the file."""
    stream = raw.get("stream", {})
    if stream.get("kind") == "kafka" and not stream.get("servers"):
        yield ("stream",), 'servers is missing; add servers = ["host:9092"]'
    security = stream.get("security", {})
    if str(security.get("security_protocol", "")).startswith("SASL") and not security.get("sasl_mechanism"):
        yield ("stream", "security"), 'sasl_mechanism is missing; add sasl_mechanism = "SCRAM-SHA-512" or "PLAIN"'
    for section, key in (("sources", "name"), ("rules", "name"), ("channels", "name"), ("quiet_hours", "name")):
        yield from _repeated([item[key] for item in raw.get(section, [])], (section,), key)
    companies = raw.get("watchlist", {}).get("companies", [])
    yield from _repeated([company["symbol"] for company in companies], ("watchlist", "companies"), "symbol")
    channels = [channel["name"] for channel in raw.get("channels", [])]
    for at, rule in enumerate(raw.get("rules", [])):
        if (zone := rule.get("timezone")) is not None and zone not in zoneinfo.available_timezones():
            near = difflib.get_close_matches(zone, zoneinfo.available_timezones(), 1)
            yield ("rules", at, "timezone"), f"{zone!r} is no time zone; {near[0] if near else 'Europe/Berlin'} is one"
        for name in rule.get("channels", []):
            if name not in channels:
                known = ", ".join(channels) or "none"
                yield (
                    ("rules", at, "channels"),
                    f"there is no channel {name!r}; add it under [[channels]] (now: {known})",
                )

    yield from _proxies(raw.get("dashboard", {}))
    rules = [rule["name"] for rule in raw.get("rules", [])]
    for at, hours in enumerate(raw.get("quiet_hours", [])):
        for name in hours.get("rules", []):
            if name not in rules:
                known = ", ".join(rules) or "none"
                yield ("quiet_hours", at, "rules"), f"there is no rule {name!r} (there are: {known})"
        zone = hours.get("timezone", "UTC")
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            yield ("quiet_hours", at, "timezone"), f"no time zone {zone!r}; give one such as Europe/Berlin"


def _proxies(dashboard: dict[str, Any]) -> Iterator[tuple[Keys, str]]:
    for at, address in enumerate(dashboard.get("proxies", [])):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield ("dashboard", "proxies", at), f"{address!r} is no address; give one such as 10.0.0.2"
    if bool(dashboard.get("name_header")) != bool(dashboard.get("proxies")):
        yield ("dashboard",), "proxies and name_header go together: who is believed, and where they say who is asking"


def _repeated(values: list[str], keys: Keys, field: str) -> Iterator[tuple[Keys, str]]:
    for at, value in enumerate(values):
        if value in values[:at]:
            yield (*keys, at, field), f"{value!r} stands here a second time; each needs its own"
