"""The `moodwire` command."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from moodwire.access import ROLES
from moodwire.errors import BadInput, ModelError, MoodwireError
from moodwire.settings import Place, Settings

DESCRIPTION = """\
Watch the mood of financial news, live: news is scraped, classified, counted and charted, and an alarm goes out when
negative news about a company or a topic surges.
"""
EXAMPLES = """\
examples:
  moodwire demo                                     a local newsroom, charts, and a crisis to watch
  moodwire check                                    is moodwire.toml right?
  moodwire sources test https://www.example.org     what would be ingested from there?
  moodwire companies infosys                        its symbol, for the watchlist
  moodwire --data ./mine up                         watch your own feeds (moodwire.toml) from now on
  moodwire --data ./past replay news.jsonl.gz       bring files through the whole flow
  moodwire --data ./past query windows --series entity:AAPL --format csv
  moodwire classify titles.csv --text-column title --out scored.csv

exit codes: 0 done; 1 error; 2 configuration or usage; 3 input; 4 model; 5 store; 6 stream; 7 port in use;
8 already running; 130 interrupted
"""


Run = Callable[[argparse.Namespace, Place, Settings], int]


class Verbs:
    """The parser while it is being made: each verb with its help and what it runs."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add(self, name: str, run: Run, help_: str, epilog: str = "") -> argparse.ArgumentParser:
        verb = self._verbs.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.set_defaults(run=run)
        return verb


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="moodwire",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--config", type=Path, metavar="FILE", help="the configuration (default: ./moodwire.toml if there)"
    )
    top.add_argument(
        "--data", type=Path, metavar="DIR", default=Path("moodwire-data"), help="where this run's data are"
    )
    verbs = Verbs(top)
    flow_verbs(verbs)
    look_verbs(verbs)
    model_verbs(verbs)
    alarm_verbs(verbs)
    return top


def flow_verbs(verbs: Verbs) -> None:
    demo = verbs.add("demo", _demo, "show the whole flow on invented news: charts at once, then a crisis and its alarm")
    demo.add_argument("--port", type=int, default=8050, help="of the dashboard; the next free one is taken")
    demo.add_argument("--crisis-after", type=float, default=60.0, metavar="S", help="seconds of live news before it")
    demo.add_argument("--seconds", type=float, metavar="S", help="end by itself after this long (default: at Ctrl-C)")

    verbs.add("up", _up, "start all stages and keep them running, until Ctrl-C")

    run = verbs.add("run", _run, "run one stage in this process: ingest, classifier, trends, alerts or dashboard")
    run.add_argument("stage", metavar="STAGE", choices=("ingest", "classifier", "trends", "alerts", "dashboard"))
    run.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="ingest: these files, not the live sources")
    run.add_argument("--speed", type=speed, default=None, metavar="original|N|max", help="ingest: of the replay")
    run.add_argument("--limit", type=int, metavar="N", help="ingest: only the first N lines of each file")
    run.add_argument("--engine", choices=("one-machine", "flink"), help="trends: instead of windows.engine")
    run.add_argument("--notify-replayed", action="store_true", help="alerts: send messages for replayed news too")

    replay = verbs.add(
        "replay",
        _replay,
        "bring files (JSONL, CSV, JSON list; gzipped too) through the flow; returns when all is stored",
        "Into an empty data folder the news comes with its own times, as if it were seen then;\n"
        "into one with news in it, it fills history up and sets off no alarm.\n\n"
        "example: moodwire --data ./past replay stocknet_stream.jsonl.gz --speed max",
    )
    replay.add_argument("files", nargs="+", type=Path, metavar="FILE")
    replay.add_argument("--speed", type=speed, default=None, metavar="original|N|max", help="default: max")
    replay.add_argument("--limit", type=int, metavar="N", help="only the first N lines of each file")
    replay.add_argument("--notify", action="store_true", help="send e-mails and webhooks too")


def look_verbs(verbs: Verbs) -> None:
    verbs.add("check", _check, "check the configuration; every fault is told at once")

    sources = verbs.add(
        "sources",
        _sources,
        "add and test sources, list how they are doing, import and export OPML",
        "examples:\n"
        "  moodwire sources test https://www.example.org/news   finds the page's feed, shows what would come in\n"
        "  moodwire sources add https://www.example.org/news    and adds it to moodwire.toml\n"
        "  moodwire sources import feeds.opml",
    )
    sources.add_argument("action", choices=("add", "list", "test", "import", "export"))
    sources.add_argument("source", nargs="?", metavar="NAME|URL|FILE", help="add, test: which; import: the OPML file")

    companies = verbs.add(
        "companies",
        _companies,
        "find a company in moodwire's own list, for the watchlist",
        "example: moodwire companies infosys",
    )
    companies.add_argument("name", nargs="+", metavar="NAME", help="words of its symbol or names")

    verbs.add("status", _status, "how the stages, feeds and deliveries are doing")

    alerts_verbs(verbs.add("alerts", _alerts, "what fires, and what you do about it"))

    query = verbs.add(
        "query",
        _query,
        "print what the store holds",
        "example: moodwire query windows --series entity:AAPL --from 2014-01-01 --to 2014-02-01 --format csv",
    )
    query.add_argument("what", choices=("articles", "stories", "windows", "alerts", "labels"))
    query.add_argument("--series", metavar="S", help="all, topic:X, entity:Y or group:Z")
    query.add_argument("--from", dest="start", metavar="T", help="published at or after this (UTC)")
    query.add_argument("--to", dest="end", metavar="T", help="published before this (UTC)")
    query.add_argument("--format", choices=("table", "csv", "json", "parquet"), default="table")
    query.add_argument("--limit", type=int, metavar="N", help="the newest N rows")
    query.add_argument("--as-of", metavar="T", help="windows: as they were known then (UTC)")

    dead = verbs.add("dead-letters", _dead_letters, "what could not be used, and why; `retry` puts it back, each once")
    dead.add_argument("action", choices=("list", "retry"))

    tokens_verbs(verbs.add("tokens", _tokens, "who may see the dashboard and ask the API; who did what"))

    forget = verbs.add(
        "forget",
        _forget,
        "delete the text of a source or an article, for good; what was counted stays",
        "example: moodwire forget 'Company news' --yes",
    )
    forget.add_argument("what", metavar="SOURCE|ID", help="a source's name, or an article's id")
    forget.add_argument("--yes", action="store_true", help="do it; else it is only told what would go")

    db = verbs.add("db", _db, "the store: upgrade, drop what is old, check, back up, make a role that reads")
    db.add_argument("action", choices=("upgrade", "prune", "check", "backup", "reader"))
    db.add_argument("--to", type=Path, metavar="FILE", help="backup: where to")
    db.add_argument("--role", metavar="NAME", help="reader: of PostgreSQL; made, or given a new password")


def alerts_verbs(alerts: argparse.ArgumentParser) -> None:
    actions = alerts.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="incidents, the open ones first; silences; what could not be delivered")
    listed.add_argument("--limit", type=int, default=20, metavar="N")
    show = actions.add_parser("show", help="all that is known of an incident")
    show.add_argument("incident", metavar="ID", help="or a part of it that no other has")
    ack = actions.add_parser("ack", help="acknowledge: it is repeated no more, and told again when it worsens")
    ack.add_argument("incident", metavar="ID", help="or a part of it that no other has")
    ack.add_argument("--comment", default="", metavar="TEXT")
    silence = actions.add_parser(
        "silence",
        help="send nothing for a while; with --from, for maintenance ahead",
        epilog="example: moodwire alerts silence series=entity:AAPL --for 2h --reason 'results are out'",
    )
    silence.add_argument("matchers", nargs="*", metavar="LABEL=VALUE", help="rule, series, severity; =, !=, =~ or !~")
    silence.add_argument("--for", dest="span", default="1h", metavar="30min|2h|1d")
    silence.add_argument("--from", dest="start", metavar="T", help="UTC; default: now")
    silence.add_argument("--reason", default="", metavar="TEXT")
    silence.add_argument("--end", type=int, metavar="N", help="end silence N instead")
    test = actions.add_parser("test", help="send a made-up alert to a channel")
    test.add_argument("channel", metavar="CHANNEL")


def tokens_verbs(tokens: argparse.ArgumentParser) -> None:
    actions = tokens.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = actions.add_parser("make", help="make one; it is printed, once")
    make.add_argument("name", metavar="NAME", help="whose it is: kept with what is done by it")
    make.add_argument(
        "--role", choices=ROLES, default="viewer", help="analysts act on incidents and label; default: viewer"
    )
    make.add_argument("--for", dest="span", metavar="30d", help="until when it holds; default: until it is revoked")
    revoke = actions.add_parser("revoke", help="it holds no more, and its sessions are over")
    revoke.add_argument("name", metavar="NAME")
    actions.add_parser("list", help="all that were ever made")
    trail = actions.add_parser("trail", help="who changed what, the newest first")
    trail.add_argument("--limit", type=int, default=50, metavar="N")


def model_verbs(verbs: Verbs) -> None:
    classify = verbs.add("classify", _classify, "score each row of a CSV or JSONL file")
    classify.add_argument("file", type=Path, metavar="FILE")
    classify.add_argument("--text-column", required=True, metavar="C")
    classify.add_argument("--entity-column", metavar="C", help="the entity whose sentiment is asked for")
    classify.add_argument("--out", type=Path, required=True, metavar="FILE", help="CSV or JSONL, by its ending")

    evaluate = verbs.add(
        "evaluate",
        _evaluate,
        "a model's figures on labelled CSV or JSONL files: by class, confusion, calibration, speed",
        "example: moodwire evaluate sent_valid.csv --label 0=negative --label 1=positive --label 2=neutral",
    )
    evaluate.add_argument("files", nargs="+", type=Path, metavar="FILE")
    evaluate.add_argument("--text-column", default="text", metavar="C")
    evaluate.add_argument("--label-column", default="label", metavar="C")
    evaluate.add_argument("--head", choices=("sentiment", "topic"), default="sentiment", help="what the labels tell")
    evaluate.add_argument("--label", action="append", default=[], metavar="THEIRS=OURS", help="a label's other name")
    evaluate.add_argument("--baseline", type=Path, metavar="DIR", help="weights of a model to compare with, pairwise")
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")

    train = verbs.add(
        "train", _train, "train the classifier's weights anew, from public data (needs the extra gpu; hours on a CPU)"
    )
    train.add_argument("--corpora", type=Path, required=True, metavar="DIR", help="the data sets of the model card")
    train.add_argument("--base", type=Path, required=True, metavar="DIR", help="all-MiniLM-L6-v2")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the weights go")
    train.add_argument("--work", type=Path, required=True, metavar="DIR", help="what a killed run goes on from")


def alarm_verbs(verbs: Verbs) -> None:
    detect = verbs.add(
        "detect",
        _detect,
        "find surges in your own counts: one CSV row each 1 to 60 min, judged in order, without looking ahead",
        "Writes for each row: timestamp, value, expected, score (log10 of the rows in which quiet times bring such a\n"
        "thing once), alarm (1 where a surge begins), reason. An empty value is no data; the first two days only\n"
        "teach.\n\n"
        "example: moodwire detect counts.csv --time-column hour --value-column bad --total-column all --out out.csv",
    )
    detect.add_argument("file", type=Path, metavar="FILE.csv")
    detect.add_argument("--time-column", required=True, metavar="T", help="begin of the row, ISO 8601 or seconds")
    detect.add_argument("--value-column", required=True, metavar="V", help="what is counted, 0 or more")
    detect.add_argument("--total-column", metavar="N", help="of how many: a surge of all alike is then no alarm")
    detect.add_argument("--false-alarms-per-week", type=float, default=0.5, metavar="F", help="default: .5")
    detect.add_argument("--timezone", default="UTC", metavar="Z", help="whose hours of the week are compared")
    detect.add_argument("--out", type=Path, required=True, metavar="FILE")

    backtest = verbs.add(
        "backtest",
        _backtest,
        "what the rules would have said about stored history, or about files, also with other settings",
        "example: moodwire --data ./past backtest --from 2014-06-01 --to 2014-09-01 --html report.html",
    )
    backtest.add_argument("files", nargs="*", type=Path, metavar="FILE", help="news to replay (default: the store's)")
    backtest.add_argument("--from", dest="start", metavar="T", help="alarms at or after this (UTC)")
    backtest.add_argument("--to", dest="end", metavar="T", help="alarms before this (UTC)")
    backtest.add_argument("--rule", action="append", metavar="NAME", help="only this rule; may be given several times")
    backtest.add_argument("--html", type=Path, metavar="FILE", help="the same as a page with a chart")


def speed(text: str) -> float | None:
    """`original` is 1, `max` None, else a number above 0."""
    if text in {"max", "original"}:
        return None if text == "max" else 1.0
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not original, max or a number above 0")
    return value


def main(words: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    try:
        code = dispatch(arguments)
    except MoodwireError as error:
        print(f"moodwire: {error}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def dispatch(a: argparse.Namespace) -> int:
    if a.verb == "demo":  # writes a configuration of its own
        return _demo(a)
    run: Run = a.run
    return run(a, *_configured(a))


def _demo(a: argparse.Namespace, *_: object) -> int:
    from cli import demo

    return demo.run(a.data, a.port, a.crisis_after, a.seconds, interrupted())


def _up(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import up

    return up.run(place, settings, interrupted())


def _run(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli.stages import Replay, run_stage

    replay = Replay(tuple(a.replay), a.speed, a.limit) if a.replay else None
    if a.engine:
        windows = msgspec.structs.replace(settings.windows, engine=a.engine)
        settings = msgspec.structs.replace(settings, windows=windows)
    run_stage(a.stage, place, settings, replay, a.notify_replayed)
    return 0


def _replay(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from rich.console import Console

    from cli.replay import replay_files
    from cli.stages import Replay

    replay = Replay(tuple(a.files), a.speed, a.limit)
    return 0 if replay_files(place, settings, replay, a.notify, interrupted(), Console()) else 130


def _check(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    known = f"{len(settings.sources)} sources, {len(settings.watchlist.companies)} companies"
    print(f"{place.config or 'defaults'}: right ({known}, {len(settings.rules)} rules)")
    return 0


def _sources(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import sources, subscribe

    if a.action == "list":
        return sources.listed(place, settings)
    if a.action == "export":
        return subscribe.export_opml(settings)
    if a.source is None:
        what = {
            "test": "name a source of the configuration, or give a URL",
            "add": "give a URL",
            "import": "give a file",
        }
        raise BadInput(f"sources {a.action}: {what[a.action]}")
    if a.action == "add":
        return subscribe.add(place, settings, a.source, os.environ)
    if a.action == "import":
        return subscribe.import_opml(place, settings, Path(a.source), os.environ)
    return sources.test(settings, a.source)


def _companies(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import companies

    return companies.run(" ".join(a.name))


def _status(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import status

    return status.run(place, settings)


def _alerts(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import alerts

    match a.action:
        case "list":
            return alerts.listed(place, settings, a.limit)
        case "show":
            return alerts.show(place, settings, a.incident)
        case "ack":
            return alerts.ack(place, settings, a.incident, a.comment)
        case "silence":
            return alerts.silence(place, settings, a.matchers, a.span, a.start, a.reason, a.end)
        case _:
            return alerts.test(settings, a.channel)


def _query(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import query

    return query.run(place, settings, a.what, a.series, a.start, a.end, a.format, a.limit, a.as_of)


def _tokens(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import tokens

    match a.action:
        case "make":
            return tokens.make(place, settings, a.name, a.role, a.span)
        case "revoke":
            return tokens.revoke(place, settings, a.name)
        case "list":
            return tokens.listed(place, settings)
        case _:
            return tokens.trail(place, settings, a.limit)


def _forget(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import forget

    return forget.run(place, settings, a.what, a.yes)


def _dead_letters(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import status

    return status.dead_letters(place, settings) if a.action == "list" else status.retry(place, settings)


def _db(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import db

    return db.run(place, settings, a.action, a.to, a.role)


def _classify(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import classify

    return classify.run(settings, a.file, a.text_column, a.entity_column, a.out)


def _evaluate(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import evaluate

    columns, renamed = (a.text_column, a.label_column), dict(pair(text) for text in a.label)
    return evaluate.run(settings, a.files, columns, a.head, renamed, a.baseline, a.out)


def _train(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    try:
        from classifier import train
    except ImportError as error:
        raise ModelError(f"training needs PyTorch and transformers ({error}): pip install 'moodwire[gpu]'") from error
    print(train.run(a.corpora, a.base, a.out, a.work))
    return 0


def _detect(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import detect

    columns = (a.time_column, a.value_column, a.total_column)
    return detect.run(a.file, columns, a.false_alarms_per_week, a.timezone, a.out)


def _backtest(a: argparse.Namespace, place: Place, settings: Settings) -> int:
    from cli import backtest

    return backtest.run(place, settings, a.files, (a.start, a.end), a.rule, a.html)


def pair(text: str) -> tuple[str, str]:
    """The two sides of `THEIRS=OURS`. Raises BadInput."""
    theirs, sign, ours = text.partition("=")
    if not sign:
        raise BadInput(f"--label {text}: give THEIRS=OURS, for example 0=negative")
    return theirs, ours


def _configured(a: argparse.Namespace) -> tuple[Place, Settings]:
    from moodwire.configfile import load

    config: Path | None = a.config
    if config is not None and not config.is_file():
        raise BadInput(f"there is no configuration file {config}")
    if config is None and Path("moodwire.toml").is_file():
        config = Path("moodwire.toml")
    return Place(a.data, config), load(config, os.environ)


def interrupted() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    main()
