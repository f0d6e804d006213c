"""CSV for people's spreadsheets: text that a spreadsheet would run as a formula is made plain."""

import msgspec
import numpy as np
import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_of(frame: pd.DataFrame, header: bool = True) -> str:
    """Times in ISO 8601; a text that begins as a formula does gets an apostrophe before it; lists are JSON."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == object or pd.api.types.is_string_dtype(safe[name]):
            safe[name] = safe[name].map(_plain)
    text: str = safe.to_csv(index=False, header=header, date_format="%Y-%m-%dT%H:%M:%S.%f%z")
    return text


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | list | dict):
        value = msgspec.json.encode(list(value) if isinstance(value, np.ndarray) else value).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
