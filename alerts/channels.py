"""The ways out: e-mail, webhook, and what Apprise knows. A message in; delivered, or why not."""

import hashlib
import hmac
import logging
import smtplib
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol

import httpx

from alerts import messages
from alerts.messages import Message
from moodwire.settings import AnyChannel, AppriseService, Email, Webhook
from moodwire.web import guarded, is_public, refused_here, retry_after_s

TIMEOUT_S = 10.0
# Answers by which a receiver says that the same message will not be taken later either. All others are tried again: a
# redirect, a 404 or a 401 is as a rule a receiver that is being set up or mended.
FINAL = {400, 410, 413, 422}


class Outcome(NamedTuple):
    delivered: bool
    reason: str = ""
    retry: bool = True  # whether trying again may help
    wait_s: float | None = None  # what the receiver asked for


class Channel(Protocol):
    def send(self, message: Message) -> Outcome: ...


class EmailChannel:
    def __init__(self, settings: Email, timeout_s: float = TIMEOUT_S) -> None:
        self._settings = settings
        self._timeout_s = timeout_s

    def send(self, message: Message) -> Outcome:
        s = self._settings
        mail = messages.email(message, s.sender, s.recipients)
        try:
            server = self._connect()
        except (OSError, smtplib.SMTPException) as error:
            return Outcome(False, f"{type(error).__name__}: {error}")
        try:
            if s.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if s.user:
                server.login(s.user, s.password)
            refused = server.send_message(mail)
        except smtplib.SMTPAuthenticationError as error:
            return Outcome(False, f"SMTP {error.smtp_code} {_text(error.smtp_error)}")  # a password can be mended
        except smtplib.SMTPResponseException as error:
            return Outcome(False, f"SMTP {error.smtp_code} {_text(error.smtp_error)}", retry=error.smtp_code < 500)
        except smtplib.SMTPRecipientsRefused as error:
            told = "; ".join(f"{who}: {code} {_text(text)}" for who, (code, text) in error.recipients.items())
            return Outcome(False, told, retry=any(code < 500 for code, _ in error.recipients.values()))
        except (OSError, smtplib.SMTPException) as error:
            return Outcome(False, f"{type(error).__name__}: {error}")
        finally:
            server.close()  # no QUIT: a server that hangs after it took the message has taken it
        return Outcome(True, f"refused for {', '.join(refused)}" if refused else "")

    def _connect(self) -> smtplib.SMTP:
        s = self._settings
        if s.security == "tls":
            return smtplib.SMTP_SSL(s.host, s.port, timeout=self._timeout_s, context=ssl.create_default_context())
        return smtplib.SMTP(s.host, s.port, timeout=self._timeout_s)


class WebhookChannel:
    """Signed when there is a secret: HMAC-SHA256 over `<seconds>.<body>`.

    trusted: the address comes from the configuration file, so it may be private; any other must be public.
    """

    def __init__(
        self,
        settings: Webhook,
        clock: Callable[[], datetime],
        trusted: bool = True,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._client = httpx.Client(
            timeout=timeout_s,
            # Redirects are not followed: the address that was given is the one that is meant.
            follow_redirects=False,
            transport=guarded(lambda host, address: trusted or is_public(address), "set it in moodwire.toml instead"),
            trust_env=False,
        )

    def send(self, message: Message) -> Outcome:
        body = messages.webhook(message)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.key,
            "X-Moodwire-Delivery": message.key,
        }
        if self._settings.secret:
            headers["X-Moodwire-Signature"] = signature(self._settings.secret, int(self._clock().timestamp()), body)
        try:
            # Streamed, and what it says is not read: an answer without an end holds nothing up.
            with self._client.stream("POST", self._settings.url, content=body, headers=headers) as answer:
                status, again = answer.status_code, answer.headers.get("retry-after", "")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            if refused_here(error):
                return Outcome(False, str(error), retry=False)
            return Outcome(False, f"{type(error).__name__}: {error}")
        if httpx.codes.is_success(status):
            return Outcome(True)
        told = f"HTTP {status}" + (", and redirects are not followed" if httpx.codes.is_redirect(status) else "")
        wait_s = retry_after_s(again, self._clock()) if status in {429, 503} else None
        return Outcome(False, told, retry=status not in FINAL, wait_s=wait_s)


class AppriseChannel:
    """What Apprise delivers to. The address is a secret: it is not in the reasons."""

    def __init__(self, settings: AppriseService) -> None:
        import apprise  # takes its time, and most have no use for it

        self._settings = settings
        self._apprise = apprise
        self._service = apprise.Apprise()
        self._known = self._service.add(settings.url)

    def send(self, message: Message) -> Outcome:
        if not self._known:
            return Outcome(False, "Apprise knows no such address; see its list of services", retry=False)
        with self._apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as log:  # type: ignore[no-untyped-call]
            sent = self._service.notify(
                title=messages.subject(message),
                body=messages.plain(message),
                body_format=self._apprise.NotifyFormat.TEXT,
            )
            told = log.getvalue().strip().replace(self._settings.url, "…")
        return Outcome(bool(sent), "" if sent else told[:500] or "Apprise could not deliver it")


def signature(secret: str, at_s: int, body: bytes) -> str:
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def open_channel(settings: AnyChannel, clock: Callable[[], datetime]) -> Channel:
    """A channel of the configuration file."""
    match settings:
        case Email():
            return EmailChannel(settings)
        case Webhook():
            return WebhookChannel(settings, clock)
        case AppriseService():
            return AppriseChannel(settings)


def _text(told: bytes | str) -> str:
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else told
