"""`graft up`: a server and its worker on one machine."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

HELP = "serve, and carry out the fine-tuning jobs that users make there, on one machine"
_DESCRIPTION = """\
Starts graft serve, and graft worker for its jobs: what users upload and fine-tune through /v1/files and
/v1/fine_tuning/jobs is trained here and answers under its new name. Training waits while users wait too long.

SIGTERM and Ctrl-C end both: the worker saves its job and gives it back, then the server drains. A second signal ends
both at once. What stands behind -- goes to graft serve."""
_EXAMPLES = """\
examples:
  graft up
  graft up --yield-above 0.5 --settings recipe.yaml -- --base Qwen/Qwen2.5-0.5B-Instruct --num-slots 16"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, default=Path(".graft") / "worker", help="of the worker's jobs")
    parser.add_argument("--processes", type=int, help="of each job, by torchrun (default: 1)")
    parser.add_argument("--settings", type=Path, help="settings of all jobs, by method: see graft worker --help")
    parser.add_argument(
        "--yield-above",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="mean time to a first token from which on training waits (default: %(default)s)",
    )
    parser.add_argument("--ready-file", type=Path, help="write the server's ports as JSON here once it is ready")
    parser.add_argument("serve", nargs="*", metavar="-- ARGUMENTS", help="of graft serve, such as --base and --port")


def run(args: argparse.Namespace) -> int:
    """Until a signal, or until one of both ends. Raises `UserError` before anything is started."""
    from graft.cli.failure import UserError
    from graft.cli.up import Both

    if problems := list(_problems(args)):
        raise UserError("; ".join(problems))
    return Both(args).run()


def _problems(args: argparse.Namespace) -> Iterator[str]:
    """What the worker would say only when the server has loaded its base."""
    if args.processes is not None and args.processes < 1:
        yield f"--processes is {args.processes}; allowed are 1 or more"
    if not 0 < args.yield_above < math.inf:
        yield f"--yield-above is {args.yield_above:g}; allowed are seconds above 0"
    if args.settings is not None and not args.settings.is_file():
        yield f"--settings {args.settings}: there is no such file"
