"""`moodwire up`: all stages, until Ctrl-C."""

import threading

from rich.console import Console

from cli.stages import STAGES, open_store
from cli.supervisor import Supervisor, command
from moodwire.settings import Place, Settings


def run(place: Place, settings: Settings, stop: threading.Event) -> int:
    """Raises StageFailed where a stage cannot run, AlreadyRunning where another moodwire holds the data."""
    console = Console()
    open_store(place, settings).close()
    commands = {stage: command(place, "run", stage) for stage in STAGES}
    with Supervisor(place, commands, tell=console.print) as supervisor:
        address = settings.dashboard
        console.print(f"moodwire is up on {place.data}: open http://{address.host}:{address.port}/ (Ctrl-C ends it)")
        if not settings.sources:
            console.print("no sources yet: add [[sources]] to moodwire.toml (see moodwire.example.toml)")
        supervisor.run(stop)
        console.print("stopping the stages in order …")
    return 0
