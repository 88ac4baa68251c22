"""`graft demo`: everything once, on the real engine; `graft demo rl`: reinforcement beside other users."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

HELP = "train, serve and swap adapters once, and say what was measured"


def configure(parser: argparse.ArgumentParser) -> None:
    """Where its files go, and which demo it is."""
    _add_keep(parser, default=None)
    others = parser.add_subparsers(dest="demo", metavar="DEMO", title="another demo")
    rl = others.add_parser("rl", help="a policy learns sums from rewards on the server that others use meanwhile")
    _add_keep(rl, default=argparse.SUPPRESS)  # else it would undo what was said before its name
    rl.add_argument("--method", choices=("grpo", "rloo", "ppo"), default="grpo", help="(default: %(default)s)")
    rl.add_argument("--seed", type=int, default=0)
    rl.add_argument("--rounds", type=int, metavar="N", help="another number of rounds than the method's own")
    rl.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here")


def _add_keep(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    parser.add_argument(
        "--keep", metavar="FOLDER", default=default, help="keep its files here (default: a temporary folder)"
    )


def run(args: argparse.Namespace) -> int:
    """0 where every claim holds. Where one does not, or anything fails, its files and the server's log are kept."""
    if args.demo == "rl":
        from graft.cli.demo.rl.demo import Asked, run_rl
        from graft.cli.failure import UserError

        if problems := list(_problems(args)):
            raise UserError("; ".join(problems))
        asked = Asked(method=args.method, seed=args.seed, num_rounds=args.rounds)
        return _in_folder(args.keep, lambda folder: run_rl(folder, asked, args.json))
    from graft.cli.demo.demo import run_demo

    return _in_folder(args.keep, run_demo)


def _problems(args: argparse.Namespace) -> Iterator[str]:
    """What would else be found out after twenty minutes."""
    if args.rounds is not None and args.rounds < 1:
        yield f"--rounds is {args.rounds}; allowed are 1 or more"
    if args.json is not None and (args.json.is_dir() or not os.access(args.json.absolute().parent, os.W_OK)):
        yield f"--json {args.json} cannot be written: name a file in a folder that is there"


def _in_folder(keep: str | None, show: Callable[[Path], bool]) -> int:
    import shutil
    import signal
    import sys
    import tempfile

    from graft.cli.server_process import what_matters

    # Ended from outside, the demo still ends its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(keep or tempfile.mkdtemp(prefix="graft-demo-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    succeeded = False
    try:
        succeeded = show(folder)
    finally:
        if not succeeded:
            log = folder / "server.log"
            print(f"\nThe demo failed; its files are kept in {folder}. Of {log}:", file=sys.stderr)
            print(what_matters(log), end="", file=sys.stderr, flush=True)
        elif not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if succeeded else 1
