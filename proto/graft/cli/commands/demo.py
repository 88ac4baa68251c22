"""`graft demo`: everything once, on the real engine."""

from __future__ import annotations

import argparse

HELP = "train, serve and swap adapters once, and say what was measured"


def configure(parser: argparse.ArgumentParser) -> None:
    """Where its files go."""
    parser.add_argument("--keep", metavar="FOLDER", help="keep its files here (default: a temporary folder)")


def run(args: argparse.Namespace) -> int:
    """0 where every claim holds. Where one does not, or anything fails, its files and the server's log are kept."""
    import shutil
    import signal
    import sys
    import tempfile
    from pathlib import Path

    from graft.cli.demo.demo import run_demo
    from graft.cli.server_process import what_matters

    # Ended from outside, the demo still ends its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(args.keep or tempfile.mkdtemp(prefix="graft-demo-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    succeeded = False
    try:
        succeeded = run_demo(folder)
    finally:
        if not succeeded:
            log = folder / "server.log"
            print(f"\nThe demo failed; its files are kept in {folder}. Of {log}:", file=sys.stderr)
            print(what_matters(log), end="", file=sys.stderr, flush=True)
        elif not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if succeeded else 1
