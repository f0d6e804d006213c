"""A mail server and a webhook receiver, real and on loopback, that fail as they are told to."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from cli.demo import free_port
from moodwire.settings import Email, Webhook


class Mail:
    """Keeps what it gets, or answers DATA with what `answer` says; a `4xx` or `5xx` there is a refusal."""

    def __init__(self, first_port: int = 18025) -> None:
        self.got: list[EmailMessage] = []
        self.answer: Callable[[], str] = lambda: "250 ok"
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port(first_port))
        self.controller.start()
        self.settings = Email(
            name="desk",
            host="127.0.0.1",
            port=self.controller.port,
            security="none",
            sender="moodwire@example.test",
            recipients=("desk@example.test", "night@example.test"),
        )

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = self.answer()
        if answer.startswith("250"):
            self.got.append(message_from_bytes(envelope.original_content, policy=policy.default))
        return answer

    def stop(self) -> None:
        self.controller.stop()


class Hook(ThreadingHTTPServer):
    """Keeps what it gets and answers what `answer` says, then `after` it; None: it hangs until the other side goes."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []  # all that came
        self.accepted: list[dict[str, Any]] = []  # bodies that were answered with 2xx
        self.answer: Callable[[], int | None] = lambda: 204
        self.extra: dict[str, str] = {}  # headers of its answers
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.settings = Webhook(name="hook", url=f"http://127.0.0.1:{self.server_address[1]}/in", secret="s3cret")

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status = self.server.answer()
        if status is None:
            self.connection.settimeout(30)
            with contextlib.suppress(OSError):
                self.connection.recv(1)
            self.close_connection = True
            return
        if 200 <= status < 300:
            self.server.accepted.append(json.loads(body))
        self.send_response(status)
        for name, value in {"Location": "/elsewhere", "Content-Length": "0", **self.server.extra}.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        raise AssertionError("a redirect was followed")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Hanging:
    """Takes connections and says nothing."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def stop(self) -> None:
        self.socket.close()
