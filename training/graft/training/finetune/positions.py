"""The longest row that was asked for, beside the longest text that a base was made for."""

from __future__ import annotations

DEFAULT_LENGTH = 512


def longest_row(max_length: int, room: int | None) -> int:
    """What was asked for; what was not, only as far as a base reaches that has ``room`` positions."""
    return room if room is not None and room < max_length == DEFAULT_LENGTH else max_length


def beyond_positions(name: str, room: int | None, max_length: int) -> str | None:
    """What to say where rows may be longer than a base of this name has positions; ``room`` is None without a limit."""
    if room is None or max_length <= room:
        return None
    return (
        f"max_length is {max_length}, and {name} has {room} positions: no server takes a longer text whole. "
        f"With --max-length {room} such rows are refused"
    )
