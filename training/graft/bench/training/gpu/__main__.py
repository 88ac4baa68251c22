"""``python -m graft.bench.training.gpu``: where graft itself is not installed, but lies in ``PYTHONPATH``."""

import argparse
import sys

from graft.bench.training.gpu.command import HELP, configure, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m graft.bench.training.gpu", description=HELP)
    configure(parser)
    sys.exit(run(parser.parse_args()))
