"""Finds what a config names: an architecture, a trainer, a head or an encoder."""

from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def lookup(entries: Mapping[str, Entry], kind: str, name: str) -> Entry:
    """Return the entry of that name.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in entries:
        raise ValueError(
            f"Unknown {kind}. Expected one of {', '.join(entries)}; register another beside them. "
            f"Received: {kind}={name!r}"
        )
    return entries[name]
