"""`moodwire demo`: a newsroom, two weeks of its past, its live news, and a crisis; mail and webhook end in files."""

import json
import mailbox
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from rich.console import Console

from cli import newsroom
from cli.replay import replay_words
from cli.stages import STAGES, Replay, now, open_store
from cli.supervisor import Supervisor, command, lock
from dashboard.stage import listen
from moodwire.configfile import load
from moodwire.errors import BadInput, PortInUse
from moodwire.settings import Place
from moodwire.store import queries
from moodwire.store.db import Store

SEED = 20
HISTORY = timedelta(days=14)
HISTORY_ITEMS = 2000
MARKER = "moodwire-demo"
FIRST_MAIL_PORT = 8025


def run(data: Path, port: int, crisis_after_s: float, seconds: float | None, stop: threading.Event) -> int:
    """Until Ctrl-C, or for `seconds`. The demo's own folder in `data` is made anew each time."""
    console = Console()
    folder = _fresh(data / "demo")
    room = newsroom.Newsroom(SEED, now)
    mail = MailSink(folder / "mailbox.mbox")
    hook = HookSink(folder / "webhook.jsonl")
    port = free_port(port)
    config = folder / "moodwire.toml"
    config.write_text(configuration(room.url, mail.port, hook.port, port))
    place = Place(folder, config)
    settings = load(config, {})
    past = write_history(folder / "history.jsonl")
    open_store(place, settings).close()
    commands = {stage: command(place, "run", stage) for stage in STAGES}
    commands["ingest"] = command(place, *replay_words(Replay((past,), None, None)))
    teller = Teller(Store(place.store_url(settings)), console, folder)
    began = time.monotonic()
    try:
        with Supervisor(place, commands, once=["ingest"], tell=console.print) as supervisor:
            console.print(f"Open http://127.0.0.1:{port}/   (Ctrl-C ends the demo)", highlight=False)
            console.print(f"Two weeks of news from {len(newsroom.OUTLETS)} invented outlets are being replayed first.")
            live = False

            def each() -> bool:
                nonlocal live
                if not live and "ingest" in supervisor.done:
                    live = True
                    crisis_at = room.begin(crisis_after_s)
                    supervisor.replace("ingest", command(place, "run", "ingest"))
                    console.print(
                        f"Now live. At {crisis_at:%H:%M:%S} UTC a crisis breaks over "
                        f"{newsroom.COMPANIES[newsroom.CRISIS_COMPANY][1]}; watch the page.",
                        highlight=False,
                    )
                teller.look()
                return seconds is not None and time.monotonic() - began >= seconds

            supervisor.run(stop, each)
    finally:
        room.stop()
        mail.stop()
        hook.stop()
    return 0


class Teller:
    """Says on the terminal what the flow did."""

    def __init__(self, store: Store, console: Console, folder: Path) -> None:
        self._store = store
        self._console = console
        self._folder = folder
        self._told: set[str] = set()
        self._delivered = 0

    def look(self) -> None:
        for alert in queries.open_incidents(self._store):
            if alert.incident_id not in self._told and not alert.replayed:
                self._told.add(alert.incident_id)
                self._console.print(f"{alert.at:%H:%M:%S} ALARM {alert.series}: {alert.reason}", highlight=False)
        delivered = queries.deliveries(self._store).get("delivered", 0)
        if delivered > self._delivered:
            self._delivered = delivered
            self._console.print(
                f"{delivered} messages delivered: see {self._folder / 'mailbox.mbox'} and "
                f"{self._folder / 'webhook.jsonl'}",
                highlight=False,
                soft_wrap=True,
            )


def configuration(room_url: str, mail_port: int, hook_port: int, port: int) -> str:
    """The demo's moodwire.toml."""
    parts = [
        "# Written by `moodwire demo`.\n"
        f"[dashboard]\nport = {port}\n\n[fetching]\nallow_private = true\nhost_delay_s = 0\n\n"
        "[notifications]\ngroup_wait_s = 2\n\n"
        '[[rules]]\nname = "surge"\nseries = ["entity:*"]\nwindows = [900]\nminimum_stories = 5\n'
        "false_alarms_per_week = 0.1\n"
        "cooldown_s = 600\n\n"
        '[[channels]]\nkind = "email"\nname = "desk"\nhost = "127.0.0.1"\n'
        f'port = {mail_port}\nsecurity = "none"\nsender = "moodwire@localhost"\nrecipients = ["desk@localhost"]\n\n'
        f'[[channels]]\nkind = "webhook"\nname = "hook"\nurl = "http://127.0.0.1:{hook_port}/"\nsecret = "demo"\n'
    ]
    for source in newsroom.sources(room_url):
        parts.append(f'[[sources]]\nname = "{source.name}"\nurl = "{source.url}"\ninterval_s = {source.interval_s:g}\n')
    for company in newsroom.watchlist():
        parts.append(
            f'[[watchlist.companies]]\nsymbol = "{company.symbol}"\nnames = {json.dumps(list(company.names))}\n'
            f"groups = {json.dumps(list(company.groups))}\n"
        )
    return "\n".join(parts)


def write_history(path: Path) -> Path:
    end = datetime.now(UTC)
    with path.open("w", encoding="utf-8") as file:
        for item in newsroom.history(SEED, end - HISTORY, end, HISTORY_ITEMS):
            row = {
                "id": item.id,
                "title": item.title,
                "body": item.body,
                "source": item.outlet,
                "published_at": item.published_at.isoformat(),
            }
            file.write(json.dumps(row) + "\n")
    return path


def free_port(first: int) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, first + 50):
        try:
            listen("127.0.0.1", port).close()
        except PortInUse:
            continue
        return port
    raise PortInUse(f"no free port from {first} to {first + 49}; name another with --port")


def _fresh(folder: Path) -> Path:
    """An empty folder for the demo. Raises BadInput where it is not the demo's own, AlreadyRunning where it is used."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise BadInput(f"{folder} is not a folder that the demo made; name another with --data")
        lock(folder).close()
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    return folder


class HookSink:
    """A webhook receiver that writes each body as a line."""

    def __init__(self, path: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with path.open("ab") as file:
                    file.write(body.replace(b"\n", b" ") + b"\n")
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class MailSink:
    """An SMTP server that puts each message into a mailbox file."""

    def __init__(self, path: Path) -> None:
        self._box = mailbox.mbox(path)
        # Port 0 is not for this controller: it looks the server up by the port it was given.
        self.port = free_port(FIRST_MAIL_PORT)
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self._box.add(envelope.original_content or b"")
        self._box.flush()
        return "250 kept"

    def stop(self) -> None:
        self._controller.stop()
