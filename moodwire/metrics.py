"""What a stage tells Prometheus, and whether it is well: /metrics and /health, served from a thread of its own."""

import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import MetricsHandler

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600)
_RECORDS = (1, 3, 10, 30, 100, 300, 1000, 3000)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.processed = self._counter("processed", "Records worked off; for ingest, articles stored.")
        self.failed = self._counter("failed_batches", "Batches that could not be worked off; they are read again.")
        self.dead_letters = self._counter("dead_letters", "Records set aside.")
        self.lag = Gauge("moodwire_lag_records", "Not committed yet.", ["partition"], registry=self.registry)
        self.queued = Gauge("moodwire_queue_records", "Fetched and not taken yet.", registry=self.registry)
        self.batch = self._histogram("batch_records", "Records taken at once.", _RECORDS)
        self.took = self._histogram("batch_seconds", "From taking a batch to its commit.", _SECONDS)
        self.age = self._histogram(
            "age_seconds", "Since the oldest article (alerts: tick) of a batch was seen, at its commit.", _SECONDS
        )
        self.silent = Gauge(
            "moodwire_silent", "1 for each stage that gives no sign of life.", ["of"], registry=self.registry
        )

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"moodwire_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"moodwire_{name}", text, buckets=buckets, registry=self.registry)


class Health(msgspec.Struct, frozen=True):
    stage: str
    instance: str
    state: str  # works, waits, stopped
    fault: str  # in words; empty: it is well
    note: str


def serve(host: str, port: int, metrics: Metrics, health: Callable[[], Health]) -> ThreadingHTTPServer:
    """Serve until `shutdown`. Where the port is taken, on another one: several stages of a kind may run on one host."""

    class Handler(MetricsHandler):
        registry = metrics.registry

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/health":
                super().do_GET()
                return
            found = health()
            body = msgspec.json.encode(found)
            self.send_response(503 if found.fault else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError:
        server = ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
