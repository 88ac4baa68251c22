"""One part in a process of its own: ``python -m graft.bench.training.gpu.part NAME [--rehearse]``."""

from __future__ import annotations

import importlib
import os
import sys

from graft.bench.training.gpu.teller import Teller


def main(name: str, *, rehearses: bool) -> int:
    # Libraries print as they like: what they print must not get among the figures.
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    teller = Teller(rehearses=rehearses, stream=stream)
    try:
        module = importlib.import_module(f"graft.bench.training.gpu.parts.{name}")
        module.measure(teller)
    except ImportError as error:
        teller.lacks(f"{error}: nothing of this part was measured behind it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], rehearses="--rehearse" in sys.argv[2:]))
