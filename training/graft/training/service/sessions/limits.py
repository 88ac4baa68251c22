"""How much of the trainer callers may have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of all callers together, where nothing else is said."""

    max_adapters: int = 8
    """That learn at the same time: each has masters and an optimizer's state in memory."""
    max_sessions: int = 64
    max_samplers: int = 256
    """Of one session."""
    max_sampling: int = 16
    """Answers that one caller waits for at the same time, of those that all callers do."""
    max_text_tokens: int = 2048
    """Of one text."""
    max_waiting_bytes: int = 256 << 20
    """Requests of one training that wait for their turn."""
    idle_seconds: float = 600.0
    """Without a sign of life, after which a session ends."""
