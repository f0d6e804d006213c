"""What `docker compose up` would do: the file is sound, nothing open leaves the host, and its commands run for real.

There is no container here: docs/operate.md says so.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import yaml
from compose_spec import PyCompose

from cli.stages import STAGES
from moodwire.metrics import Metrics
from moodwire.settings import Metrics as MetricsSettings
from tests import services
from tests.helpers import until
from tests.services import JARS, Kafka, Service, free_port

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)["services"]
DECLARED = yaml.safe_load(TEXT)["volumes"]
OURS = [name for name in COMPOSE if name in STAGES or name in {"classifier-gpu", "trends-flink"}]


def parsed(text: str) -> PyCompose:
    """By the Compose specification, with anchors and the variables' defaults put in first. Raises ValueError."""
    whole = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)
    compose = PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(whole), sort_keys=False))
    compose.validate()
    return compose


def test_the_compose_file_is_of_the_specification() -> None:
    assert set(parsed(TEXT).service_names()) == set(COMPOSE)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("    healthcheck:", "    healthchek:"),
        ("condition: service_healthy", "condition: healthy"),
        ("interval: 5s", "interval: 5 weeks"),
        ("  database_password: {file", "  database_pasword: {file"),
    ],
)
def test_a_compose_file_that_is_not_is_found(was: str, becomes: str) -> None:
    assert was in TEXT
    with pytest.raises(ValueError, match=r".+"):
        parsed(TEXT.replace(was, becomes, 1))


def test_every_service_is_watched_started_again_and_not_root() -> None:
    for name, service in COMPOSE.items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["user"].split(":")[0] not in {"", "0", "root"}, name
        assert ":latest" not in service["image"], name


def test_no_port_leaves_the_host_and_no_password_stands_in_the_file() -> None:
    for name, service in COMPOSE.items():
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), name
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"
        assert not re.search(r"//[^/@\s]*:[^/@\s]*@", json.dumps(service)), f"{name}: a password in an address"


def test_each_stage_is_there_once_and_asked_for_its_health_at_its_port() -> None:
    assert {service["command"][-1] for name, service in COMPOSE.items() if name in OURS} == set(STAGES)
    for name in OURS:
        stage = COMPOSE[name]["command"][-1]
        assert COMPOSE[name]["healthcheck"]["test"][-1] == str(MetricsSettings().port + STAGES.index(stage)), name
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    for target in prometheus["scrape_configs"][0]["dns_sd_configs"]:
        for name in target["names"]:
            assert COMPOSE[name]["healthcheck"]["test"][-1] == str(target["port"])


def test_the_board_and_the_rules_ask_for_what_stages_tell() -> None:
    told = {sample.name for family in Metrics().registry.collect() for sample in family.samples}
    told |= {f"{family.name}{end}" for family in Metrics().registry.collect() for end in ("", "_total", "_bucket")}
    board = json.loads((ROOT / "deploy/grafana/operators.json").read_text())
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    names = {name for expression in asked for name in re.findall(r"moodwire_\w+", expression)}
    assert len(names) > 5
    assert names <= told


def test_files_that_are_mounted_are_there() -> None:
    for name, service in COMPOSE.items():
        for volume in service.get("volumes", ()):
            source = re.sub(r"^\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            found = (ROOT / source).exists() if source.startswith(".") else source in DECLARED
            assert found, f"{name}: {source}"
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    for source in re.findall(r"^COPY (\S+) ", dockerfile, re.M):
        assert (ROOT / source).exists()
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.M))
    assert {service["build"]["target"] for service in COMPOSE.values() if "build" in service} == targets


class ComposeKafka(Kafka):
    """A broker set as the file says, but for its ports and folder."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="moodwire-kafka-"))
        self.port, controller = free_port(), free_port()
        self.server = f"127.0.0.1:{self.port}"
        text = "".join(
            f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={value}\n"
            for name, value in COMPOSE["kafka"]["environment"].items()
        )
        for was, becomes in {
            "kafka:9092": self.server,
            "://:9092": f"://{self.server}",
            "localhost:9093": f"127.0.0.1:{controller}",
            "://:9093": f"://127.0.0.1:{controller}",
            "/var/lib/kafka/data": str(folder / "data"),
        }.items():
            assert was in text
            text = text.replace(was, becomes)
        properties = folder / "server.properties"
        properties.write_text(text)
        java = ["java", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*"]
        tool = [*java, "kafka.tools.StorageTool", "format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", str(properties)]
        subprocess.run(tool, check=True, capture_output=True, timeout=90)
        Service.__init__(self, [*java, "kafka.Kafka", str(properties)], folder)
        self.java = java


@pytest.fixture(scope="module")
def broker() -> Iterator[ComposeKafka]:
    broker = ComposeKafka()
    broker.start()
    yield broker
    broker.stop()


def healthy(test: list[str]) -> bool:
    """A health check of the file, run here."""
    program, *words = test[1:]
    assert program == "python"
    return subprocess.run([sys.executable, *words], capture_output=True, check=False, cwd=ROOT).returncode == 0


def until_well(well: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    """deadline: of the monotonic clock. Where it does not come to that, the end of the log tells why."""
    while not well():
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


@pytest.mark.long
def test_the_broker_s_own_check_passes(broker: ComposeKafka) -> None:
    script, *words = COMPOSE["kafka"]["healthcheck"]["test"][1:]
    assert Path(script).name == "kafka-broker-api-versions.sh"  # which runs the class that is run here
    words = [word.replace("localhost:9092", broker.server) for word in words]
    command = [*broker.java, "org.apache.kafka.tools.BrokerApiVersionsCommand", *words]
    assert subprocess.run(command, capture_output=True, check=False, timeout=90).returncode == 0


def test_the_database_s_own_check_passes() -> None:
    server = services.postgres()
    program, *words = COMPOSE["db"]["healthcheck"]["test"][1:]
    binary = Path(server.program).with_name(program)
    assert subprocess.run([binary, *words, "--port", str(server.port)], check=False).returncode == 0
    assert subprocess.run([binary, *words, "--port", str(free_port())], check=False).returncode != 0


def test_a_stage_s_command_runs_and_is_well(tmp_path: Path) -> None:
    run_and_ask(["ingest"], services.kafka(), tmp_path)


@pytest.mark.long
def test_all_stages_commands_run_on_the_broker_as_it_is_set_there(broker: ComposeKafka, tmp_path: Path) -> None:
    run_and_ask([name for name in OURS if name in STAGES], broker, tmp_path)


class Cluster:
    """Flink's JobManager and a TaskManager by the words of the file, but for their addresses."""

    def __init__(self, folder: Path) -> None:
        self.rpc, self.rest = free_port(), free_port()
        (home,) = ROOT.glob(".venv-flink/lib/python3*/site-packages/pyflink")
        self._becomes = {
            "/opt/flink/home": str(home),
            "$$(hostname -i)": "127.0.0.1",
            "0.0.0.0": "127.0.0.1",
            "=/rocksdb": f"={folder / 'rocksdb'}",
            "rpc.address=jobmanager": f"rpc.address=127.0.0.1 -D jobmanager.rpc.port={self.rpc}",
            "rest.address=jobmanager": f"rest.address=127.0.0.1 -D rest.port={self.rest}",
            "//localhost:8081": f"//127.0.0.1:{self.rest}",
            "//jobmanager:8081": f"//127.0.0.1:{self.rest}",
        }
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def here(self, word: str) -> list[str]:
        for was, becomes in self._becomes.items():
            word = word.replace(was, becomes)
        return word.split(" ") if re.fullmatch(r"\S+ -D \S+", word) else [word]

    def start(self, name: str) -> None:
        """Started, and well by its own check."""
        words = [part for word in COMPOSE[name]["command"] for part in self.here(word)]
        environment = {**os.environ, "FLINK_LOG_DIR": str(self._folder), "FLINK_PID_DIR": str(self._folder)}
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(words, stdout=output, stderr=output, env=environment, start_new_session=True)
        self._processes.append(process)
        until_well(lambda: self.well(name), process, log, time.monotonic() + 90)

    def well(self, name: str) -> bool:
        _, _, *words = COMPOSE[name]["healthcheck"]["test"]
        words = [part for word in words for part in self.here(word)]
        return subprocess.run([sys.executable, *words], capture_output=True, check=False).returncode == 0

    def jobs(self) -> dict[str, str]:
        found = httpx.get(f"http://127.0.0.1:{self.rest}/jobs/overview").json()["jobs"]
        return {job["name"]: job["state"] for job in found}

    def stop(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.long
def test_the_flink_cluster_runs_the_job_that_the_stage_submits(tmp_path: Path) -> None:
    text = (ROOT / "deploy/moodwire.toml").read_text()
    cluster = Cluster(tmp_path)
    for was, becomes in {
        "jobmanager:8081": f"127.0.0.1:{cluster.rest}",
        "/opt/flink/bin/python": str(ROOT / ".venv-flink/bin/python"),
        "/opt/flink/flink-sql": str(ROOT / ".services/flink/flink-sql"),
        "file:///checkpoints": (tmp_path / "checkpoints").as_uri(),
    }.items():
        assert was in text
        text = text.replace(was, becomes)
    config = tmp_path / "moodwire.toml"
    config.write_text(text)
    try:
        assert not cluster.well("jobmanager")
        cluster.start("jobmanager")
        assert not cluster.well("taskmanager")
        cluster.start("taskmanager")
        for _ in range(2):  # a stage that starts again finds its job and submits no other
            run_and_ask(
                ["trends-flink"],
                services.kafka(),
                tmp_path,
                config,
                lambda: until(lambda: list(cluster.jobs().values()) == ["RUNNING"], 120),
            )
        assert list(cluster.jobs().values()) == ["RUNNING"]
    finally:
        cluster.stop()


def run_and_ask(
    names: list[str],
    broker: Kafka,
    tmp_path: Path,
    config: Path = ROOT / "deploy/moodwire.toml",
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Start the stages by the words of the file, wait until their health checks pass, stop them after `meanwhile`."""
    url = sa.make_url(services.postgres().database())
    secret = tmp_path / "database_password"
    secret.write_text("no matter: this server trusts\n")
    base, dashboard = free_port(), free_port()
    processes = {}
    try:
        for name in names:
            environment = {**COMPOSE[name]["environment"], "MOODWIRE_METRICS_PORT": str(base)}
            environment["MOODWIRE_DASHBOARD_PORT"] = str(dashboard)
            environment["MOODWIRE_STORE_PASSWORD_FILE"] = str(secret)
            here = f"@127.0.0.1:{url.port}/{url.database}"
            environment = {
                variable: re.sub(r"@(db|127\.0\.0\.1:5432)/moodwire$", here, value).replace("kafka:9092", broker.server)
                for variable, value in environment.items()
            }
            program, *words = COMPOSE[name]["command"]
            assert program == "moodwire"
            places = {
                "/etc/moodwire/moodwire.toml": str(config),
                "/data": str(tmp_path / "data"),
            }
            command = [sys.executable, "-m", "cli.main", *(places.get(word, word) for word in words)]
            with (tmp_path / f"{name}.log").open("wb") as output:
                processes[name] = subprocess.Popen(
                    command, stderr=output, env={**os.environ, **environment}, cwd=ROOT, start_new_session=True
                )
        deadline = time.monotonic() + 120
        for name in names:
            check = COMPOSE[name]["healthcheck"]["test"]
            port = str(base + int(check[-1]) - MetricsSettings().port)
            assert not healthy([*check[:-1], str(free_port())])
            words = [*check[:-1], port]
            until_well(lambda words=words: healthy(words), processes[name], tmp_path / f"{name}.log", deadline)  # type: ignore[misc]
        meanwhile()
        for process in processes.values():
            process.terminate()
        assert [process.wait(60) for process in processes.values()] == [0] * len(names)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
