"""``graft worker``: carries out the jobs of a running server."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

HELP = "carry out a server's fine-tuning jobs: claim, train, push, claim the next"
_DESCRIPTION = """\
Carries out fine-tuning jobs that users make on a running server (/v1/fine_tuning/jobs, or JobService): claims one by a
lease, trains it in a process of its own, streams events and metrics, pushes checkpoints and the finished version, moves
the alias stable to it, and claims the next.

SIGTERM and Ctrl-C save the job and give it back: another worker goes on from the newest checkpoint. Workers that see
the same --folder go on from each other's checkpoints. A worker that was killed goes on with its job when it is started
again under the same --name."""
_EXAMPLES = """\
examples:
  graft serve &                                  # the server, on localhost:8470
  graft worker                                   # its worker on the same machine
  graft worker --server gpu1:8470 --processes 8  # eight GPUs of this machine for each job
  graft worker --ray 16 --ray-address auto       # sixteen Ray Train workers of a running cluster
  GRAFT_TOKEN=… graft worker --server host:8470  # where the server has tenants: a token of its --worker-tenant"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=os.environ.get("GRAFT_SERVER", "localhost:8470"),
        help="the server's gRPC address (default: $GRAFT_SERVER or %(default)s); the token is in GRAFT_TOKEN",
    )
    parser.add_argument("--name", help="of this worker, in events and below --folder (default: this host's name)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(".graft") / "worker",
        help="jobs with their checkpoints, and reports on their way (default: %(default)s)",
    )
    parser.add_argument(
        "--training-base", type=Path, help="folder of the server's base on this machine (default: found by its name)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="of each job on this machine, by torchrun (default: 1)"
    )
    parser.add_argument("--ray", type=int, metavar="WORKERS", help="train each job in so many Ray Train workers")
    parser.add_argument("--ray-address", help="of a running cluster (default: one is started for each job)")
    parser.add_argument(
        "--settings",
        type=Path,
        help="YAML, JSON or TOML file: for supervised and dpo settings of graft finetune and graft align, which all "
        "jobs of the method have",
    )
    parser.add_argument(
        "--yield-to",
        metavar="URL",
        help="Prometheus metrics of a server on this machine, such as http://localhost:8471/metrics: trainings wait "
        "between two steps while its users wait too long for first tokens (graft up says it by itself)",
    )
    parser.add_argument(
        "--yield-above",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="mean time to a first token from which on they wait (default: %(default)s)",
    )
    parser.add_argument("--max-jobs", type=int, help="end after so many jobs (default: go on for ever)")


def run(args: argparse.Namespace) -> int:
    from graft.training.runtime.startup import prepare

    prepare()
    from graft.training.worker.supervising.started import run_worker

    run_worker(args, target=args.server, name=args.name or socket.gethostname())
    return 0
