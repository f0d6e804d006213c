"""Serving the dashboard until the stop."""

import gc
import socket
import threading

import uvicorn

from dashboard.app import build
from dashboard.guard import needs_login
from moodwire.errors import ConfigError, PortInUse
from moodwire.stage import Context
from moodwire.store.access import any_token

NAME = "dashboard"
BEAT_S = 1.0
NOBODY = (
    "dashboard: {host} asks for a login, and nobody could log in; make a token first (moodwire tokens make NAME "
    "--role admin), or name a trusted proxy (docs/access.md)"
)


def run(context: Context) -> None:
    """Serve on settings.dashboard; the address is in the stage's note. Raises PortInUse, ConfigError."""
    settings = context.settings.dashboard
    if needs_login(settings) and not settings.name_header and not any_token(context.store, context.clock()):
        raise ConfigError([NOBODY.format(host=settings.host)])
    listener = listen(settings.host, settings.port)
    app = build(context.store, context.settings, context.clock)
    gc.collect()
    gc.freeze()  # what is built stays: looking through it for garbage held up answers by a tenth of a second
    server = uvicorn.Server(
        uvicorn.Config(app.server, log_level="warning", timeout_graceful_shutdown=1, ws="websockets-sansio")
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="server", daemon=True)
    thread.start()
    context.pulse.note = f"http://{settings.host}:{listener.getsockname()[1]}/"
    while not context.stop.wait(BEAT_S) and thread.is_alive():
        context.pulse.beat()
    server.should_exit = True
    thread.join(5)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortInUse saying what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"the dashboard cannot listen on {host}:{port}: {error.strerror}; "
            "stop what uses it, or set another dashboard.port (MOODWIRE_DASHBOARD_PORT)"
        ) from error
    listener.listen(128)
    return listener
