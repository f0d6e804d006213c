"""`moodwire sources add`, `import` and `export`: the configuration's sources, its comments kept."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from lxml import etree
from rich.console import Console

from cli.sources import Tester
from ingest.fetch import Fetcher
from moodwire.configfile import load
from moodwire.errors import BadInput
from moodwire.settings import Place, Settings, Source, host_of

NAME_CHARS = 64


def add(place: Place, settings: Settings, url: str, environ: Mapping[str, str]) -> int:
    """Look at what an address gives, and make it a source. 1 where nothing would be ingested from it.

    Raises BadInput where it is a source already, ConfigError where the file would be wrong.
    """
    path = _file(place)
    fetcher = Fetcher(settings.fetching, [host_of(source.url) for source in settings.sources] + [host_of(url)])
    try:
        found = Tester(settings, fetcher, Console()).found(url)
    finally:
        fetcher.close()
    if found is None:
        return 1
    taken = {source.url: source.name for source in settings.sources}
    if found.url in taken:
        raise BadInput(f"{found.url} is a source already: {taken[found.url]}")
    (entry,) = entries([found], settings)
    append(path, [entry], environ)
    print(f"{path}: added [[sources]] {entry['name']}, {entry['url']}")
    return 0


def import_opml(place: Place, settings: Settings, file: Path, environ: Mapping[str, str]) -> int:
    """Make the feeds of an OPML file sources; what is a source already is passed over. Raises BadInput, ConfigError."""
    known = {source.url for source in settings.sources}
    found = outlines(file)
    made = entries([source for source in found if source.url not in known], settings)
    if made:
        append(_file(place), made, environ)
    print(f"{_file(place)}: {len(made)} sources added, {len(found) - len(made)} were there already")
    return 0


def export_opml(settings: Settings) -> int:
    """The feeds as OPML 2.0 on standard output; sources of other kinds have no place in it."""
    root = etree.Element("opml", version="2.0")
    etree.SubElement(etree.SubElement(root, "head"), "title").text = "moodwire"
    body = etree.SubElement(root, "body")
    others = [source.name for source in settings.sources if type(source) is not Source]
    for source in settings.sources:
        if type(source) is Source:
            etree.SubElement(body, "outline", type="rss", text=source.name, title=source.name, xmlUrl=source.url)
    print(etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="utf-8").decode(), end="")
    if others:
        print(f"left out, as they are no feeds: {', '.join(others)}", file=sys.stderr)
    return 0


def outlines(file: Path) -> list[Source]:
    """The feeds that an OPML file names, each address once. Raises BadInput."""
    try:
        root = etree.fromstring(file.read_bytes(), etree.XMLParser(resolve_entities=False, no_network=True))
    except (OSError, etree.XMLSyntaxError) as error:
        raise BadInput(f"{file} cannot be read as OPML: {error}") from error
    found: dict[str, Source] = {}
    for outline in root.iter("outline"):
        url = (outline.get("xmlUrl") or "").strip()
        if re.fullmatch(r"https?://\S+", url):
            found.setdefault(url, Source(name=outline.get("title") or outline.get("text") or host_of(url), url=url))
    if not found:
        raise BadInput(f"{file} names no feed: no outline in it has an xmlUrl")
    return list(found.values())


def entries(sources: Sequence[Source], settings: Settings) -> list[dict[str, Any]]:
    """What is written of new sources: a name of their own, the address, the kind where it is no feed."""
    taken = {source.name for source in settings.sources}
    made = []
    for source in sources:
        kind = str(type(source).__struct_config__.tag)
        name = named(source.name, taken)
        taken.add(name)
        made.append({**({} if kind == "feed" else {"kind": kind}), "name": name, "url": source.url})
    return made


def named(wish: str, taken: set[str]) -> str:
    """A name that the configuration allows and that is free."""
    name = re.sub(r"\s+", " ", re.sub(r"[^A-Za-z0-9 ._&-]+", " ", wish)).strip(" ._&-")[:NAME_CHARS] or "source"
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name[: NAME_CHARS - 4]} {number}"
    return free


def append(path: Path, new: Sequence[Mapping[str, Any]], environ: Mapping[str, str]) -> None:
    """Add sources after those that the file has. Raises ConfigError where it would be wrong, and leaves it as it is."""
    document = tomlkit.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    if "sources" not in document:
        document.append("sources", tomlkit.aot())
    sources = document["sources"]
    for entry in new:
        if sources and not sources[-1].as_string().endswith("\n\n"):
            sources[-1].add(tomlkit.nl())
        table = tomlkit.table()
        for key, value in entry.items():
            table.add(key, value)
        table.add(tomlkit.nl())
        sources.append(table)
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(tomlkit.dumps(document).rstrip("\n") + "\n", encoding="utf-8")
        load(draft, environ)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _file(place: Place) -> Path:
    return place.config or Path("moodwire.toml")
