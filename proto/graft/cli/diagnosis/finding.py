"""What `graft doctor` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "notice", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at: what it is, whether that will do, and what to do where it will not."""

    subject: str
    state: State
    found: str
    remedy: str = ""
