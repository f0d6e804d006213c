"""`moodwire forget`: the text of a source or an article goes, the counts stay."""

import getpass

from cli.stages import now, open_store
from moodwire.settings import Place, Settings
from moodwire.store import forget


def run(place: Place, settings: Settings, what: str, sure: bool) -> int:
    """0 when it is done; 1 where it was only told what would go. Raises BadInput."""
    store = open_store(place, settings)
    if not sure:
        print(
            f"{forget.count(store, what)} articles, with their revisions, would lose title, text and address for good."
        )
        print("Say --yes to do it.")
        return 1
    gone = forget.forget(store, what, getpass.getuser(), now())
    print(f"forgotten: {gone.articles} articles; taken out of {gone.alerts} alerts and {gone.messages} messages")
    print(f"the stream keeps its records for {settings.retention.stream_days:g} days from when they came")
    return 0
