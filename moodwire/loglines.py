"""How a stage logs: a line a message, the message first, then fields as name=value, the values in JSON."""

import json
import logging
import sys

FIELDS = ("article", "topic", "partition", "offset", "records", "seconds")  # that a message may bring, in `extra`
_CHATTY = ("alembic", "httpx", "httpcore", "kafka")


class Lines(logging.Formatter):
    def __init__(self, stage: str, instance: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._always = {"stage": stage, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        line, newline, trace = super().format(record).partition("\n")
        brought = {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        fields = {**self._always, **brought}.items()
        told = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in fields)
        return f"{line} {told}{newline}{trace}"


def begin(stage: str, instance: str, level: str) -> None:
    """All that is logged from here on goes to standard error. level: debug, info, warning or error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(stage, instance))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # it warns of each pause of a busy machine
