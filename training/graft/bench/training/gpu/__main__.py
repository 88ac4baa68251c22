"""``python -m graft.bench.training.gpu``: where graft itself is not installed, but lies in ``PYTHONPATH``."""

import argparse
import sys
from collections.abc import Sequence

from graft.bench.training.gpu.command import HELP, configure, run
from graft.training.errors import TrainingError


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status; a mistake of the user's is told in one line, as ``graft`` tells it."""
    parser = argparse.ArgumentParser(prog="python -m graft.bench.training.gpu", description=HELP)
    configure(parser)
    try:
        return run(parser.parse_args(argv))
    except TrainingError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
