"""What the end of a process is called."""

from __future__ import annotations

import contextlib
import signal


def how_it_ended(code: int | None) -> str:
    """Of an exit code as `subprocess` and `multiprocessing` give it: below zero a signal's; None where none is known.

    The kernel kills with SIGKILL where memory runs out.
    """
    if code is None:
        return "was killed"
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
