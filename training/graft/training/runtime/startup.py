"""What a command does before it imports torch."""

import logging
import os


def prepare() -> None:
    """Threads wait asleep, and libraries keep to themselves that optional parts of theirs are absent.

    OpenMP's threads spin while they wait, which is right on an idle machine and ruinous on a busy one: with both cores
    of a two-core machine shared with a server, thirty steps of a small fine-tuning took 244 s spinning and 4 s sleeping
    (the load was not equal). A policy that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
