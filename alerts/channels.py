"""The ways out: e-mail and webhook. A message in; delivered, or why not."""

import hashlib
import hmac
import smtplib
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol

import httpx

from alerts import messages
from alerts.messages import Message
from moodwire.settings import Email, Webhook

TIMEOUT_S = 10.0


class Outcome(NamedTuple):
    delivered: bool
    reason: str = ""
    retry: bool = True  # whether trying again may help


class Channel(Protocol):
    def send(self, message: Message) -> Outcome: ...


class EmailChannel:
    def __init__(self, settings: Email) -> None:
        self._settings = settings

    def send(self, message: Message) -> Outcome:
        s = self._settings
        mail = messages.email(message, s.sender, s.recipients)
        try:
            with self._connect() as server:
                if s.security == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if s.user:
                    server.login(s.user, s.password)
                refused = server.send_message(mail)
        except smtplib.SMTPResponseException as error:
            text = (
                error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
            )
            return Outcome(False, f"SMTP {error.smtp_code} {text}", retry=error.smtp_code < 500)
        except (OSError, smtplib.SMTPException) as error:
            return Outcome(False, f"{type(error).__name__}: {error}")
        return Outcome(True, f"refused for {', '.join(refused)}" if refused else "")

    def _connect(self) -> smtplib.SMTP:
        s = self._settings
        if s.security == "tls":
            return smtplib.SMTP_SSL(s.host, s.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return smtplib.SMTP(s.host, s.port, timeout=TIMEOUT_S)


class WebhookChannel:
    """Signed when there is a secret: HMAC-SHA256 over `<seconds>.<body>`."""

    def __init__(self, settings: Webhook, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock

    def send(self, message: Message) -> Outcome:
        body = messages.webhook(message)
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.key.encode().hex()}
        if self._settings.secret:
            headers["X-Moodwire-Signature"] = signature(self._settings.secret, int(self._clock().timestamp()), body)
        try:
            # Redirects are not followed: the address in the configuration is the one that is meant.
            answer = httpx.post(
                self._settings.url, content=body, headers=headers, timeout=TIMEOUT_S, follow_redirects=False
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Outcome(False, f"{type(error).__name__}: {error}")
        if answer.is_success:
            return Outcome(True)
        again = answer.status_code >= 500 or answer.status_code in {408, 425, 429}
        return Outcome(False, f"HTTP {answer.status_code}", retry=again)


def signature(secret: str, at_s: int, body: bytes) -> str:
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def open_channel(settings: Email | Webhook, clock: Callable[[], datetime]) -> Channel:
    return EmailChannel(settings) if isinstance(settings, Email) else WebhookChannel(settings, clock)
