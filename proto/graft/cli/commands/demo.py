"""`graft demo`: everything once, on the real engine."""

from __future__ import annotations

import argparse

HELP = "train, serve and swap adapters once, and say what was measured"


def configure(parser: argparse.ArgumentParser) -> None:
    """Where its files go."""
    parser.add_argument("--keep", metavar="FOLDER", help="keep its files here (default: a temporary folder)")


def run(args: argparse.Namespace) -> int:
    """0 where every claim holds."""
    import signal
    import sys
    import tempfile
    from pathlib import Path

    from graft.cli.demo.demo import run_demo

    # Ended from outside, the demo still ends its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if args.keep:
        folder = Path(args.keep).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return 0 if run_demo(folder) else 1
    with tempfile.TemporaryDirectory(prefix="graft-demo-") as temporary:
        return 0 if run_demo(Path(temporary)) else 1
