"""Real services for the tests, on loopback and free ports: started when first asked for, once a run.

Where what they need is missing, the tests that ask for them fail and say so: `./run test` installs it.
"""

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
import pytest

JARS = Path(__file__).parent.parent / ".services" / "kafka"
START_S = 90.0


class Service:
    """A process that ends with this one, whatever happens to this one, and can be hung, killed and started again."""

    def __init__(self, command: Sequence[str], folder: Path, user: str | None = None) -> None:
        drop = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"] if user else []
        # In this order: a change of user forgets the signal.
        self._command = [*drop, "setpriv", "--pdeathsig", "KILL", "--", *command]
        self._log = folder / "service.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.user = user
        atexit.register(self._end, folder)

    def start(self) -> None:
        """From the main thread: it is the end of the starting thread that ends the service."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def signal(self, number: int) -> None:
        """To the service and all that it started."""
        assert self._process is not None
        service = psutil.Process(self._process.pid)
        for process in (service, *service.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """At once, as when the machine fails."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL: a fast shutdown
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self._process.wait()
        self._process = None

    def wait(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + START_S
        while not ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > until:
                told = self._log.read_text(errors="replace")[-3000:]
                pytest.fail(f"{self._command[-2:]} did not come up:\n{told}")
            time.sleep(0.05)

    def _end(self, folder: Path) -> None:
        self.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Kafka(Service):
    """One broker, KRaft, its own controller."""

    def __init__(self) -> None:
        if not JARS.is_dir() or shutil.which("java") is None:
            pytest.fail(f"Kafka is missing (java, and the jars in {JARS}): `./run test` installs it")
        folder = Path(tempfile.mkdtemp(prefix="moodwire-kafka-"))
        self.port, controller = free_port(), free_port()
        self.server = f"127.0.0.1:{self.port}"
        properties = folder / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://{self.server},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.server}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "log.dirs": str(folder / "data"),
            "num.network.threads": "2",
            "num.io.threads": "2",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        java = ["java", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*"]
        tool = [*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", uuid.uuid4().hex[:22]]
        subprocess.run([*tool, "-c", str(properties)], check=True, capture_output=True, timeout=START_S)
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        super().__init__([*java, quiet, "kafka.Kafka", str(properties)], folder)

    def start(self) -> None:
        super().start()
        self.wait(lambda: listens(self.port))


class Postgres(Service):
    """A cluster of its own, run by a user who is not root, with TimescaleDB where that is installed.

    MOODWIRE_TEST_POSTGRES names a folder of PostgreSQL versions other than Debian's.
    """

    def __init__(self) -> None:
        versions = Path(os.environ.get("MOODWIRE_TEST_POSTGRES", "/usr/lib/postgresql"))
        found = sorted(versions.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
        if not found:
            pytest.fail("PostgreSQL is missing (package postgresql): `./run test` installs it")
        folder = Path(tempfile.mkdtemp(prefix="moodwire-postgres-"))
        user = None
        if os.getuid() == 0:
            user = "postgres"
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        self.port = free_port()
        self.program = found[-1]
        data = folder / "data"
        make = [str(found[-1].with_name("initdb")), "-D", str(data), "-U", "moodwire", "-A", "trust", "-E", "UTF8"]
        drop = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"] if user else []
        subprocess.run([*drop, *make, "--locale", "C", "--no-sync"], check=True, capture_output=True, timeout=START_S)
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
        config = [str(found[-1].with_name("pg_config")), "--sharedir"]
        shared = Path(subprocess.run(config, check=True, capture_output=True, text=True).stdout.strip())
        if (shared / "extension" / "timescaledb.control").exists():
            options |= {"shared_preload_libraries": "timescaledb", "timescaledb.telemetry_level": "off"}
        given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        super().__init__([str(found[-1]), "-D", str(data), "-p", str(self.port), *given], folder, user)

    def start(self) -> None:
        super().start()
        self.wait(self._answers)

    def database(self) -> str:
        """The address of a new, empty database."""
        import psycopg

        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://moodwire@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _address(self, name: str) -> str:
        return f"postgresql://moodwire@127.0.0.1:{self.port}/{name}"


@cache
def kafka() -> Kafka:
    broker = Kafka()
    broker.start()
    return broker


@cache
def postgres() -> Postgres:
    server = Postgres()
    server.start()
    return server


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex(("127.0.0.1", port)) == 0
