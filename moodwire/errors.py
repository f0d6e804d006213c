"""The error tree. Every error says what, where, and what to do next.

MoodwireError                 exit code 1
├── ConfigError               2   moodwire.toml or the environment is wrong (all faults at once)
├── BadInput                  3   a file, record or argument given by the user cannot be used
├── ModelError                4   weights missing, corrupt or unknown
├── StoreError                5   the store cannot be opened, is locked or is of another version
│   └── LeaseLost             5   another instance works on this stage now; what was not kept is done there
├── StreamError               6   the log cannot be read or written
│   └── AssignmentLost        6   another consumer took over this group; what it had not committed is redone there
│       └── Rebalanced        6   a part of the topic went to another member of the group; this one can go on
├── PortInUse                 7   the dashboard's address is taken
└── AlreadyRunning            8   another moodwire works on this data folder
"""


class MoodwireError(Exception):
    """Base of all errors that moodwire raises on purpose; its text is meant for the user."""

    exit_code = 1


class ConfigError(MoodwireError):
    exit_code = 2

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''} in the configuration"
        super().__init__("\n".join([count, *(f"  {fault}" for fault in faults)]))


class BadInput(MoodwireError):
    exit_code = 3


class ModelError(MoodwireError):
    exit_code = 4


class StoreError(MoodwireError):
    exit_code = 5


class LeaseLost(StoreError):
    pass


class StreamError(MoodwireError):
    exit_code = 6


class AssignmentLost(StreamError):
    pass


class Rebalanced(AssignmentLost):
    pass


class PortInUse(MoodwireError):
    exit_code = 7


class AlreadyRunning(MoodwireError):
    exit_code = 8
