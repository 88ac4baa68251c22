"""How torch's threads wait for each other.

OpenMP's threads spin while they wait, which is right on an idle machine and ruinous on a busy one: with both cores of a
two-core machine shared with a server, thirty steps of a small fine-tuning took 244 s spinning and 4 s sleeping (the
load was not equal).
"""

import os


def wait_without_spinning() -> None:
    """Must run before torch is imported; a policy that the user has set stays."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
