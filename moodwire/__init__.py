"""moodwire: the mood of financial news. `moodwire.connect(address)` is the analyst's way in."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moodwire.client import Client


def connect(address: str, token: str | None = None) -> "Client":
    """A store (`sqlite:///…`, `postgresql://…`) or a dashboard's API (`http://…`, `https://…`) to ask.

    token: of the API, where it asks for a login; else what MOODWIRE_TOKEN says. Raises BadInput, StoreError.
    """
    from moodwire.client import connect as open_client  # pandas is not needed to import the rest

    return open_client(address, token)
