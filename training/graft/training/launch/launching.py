"""The flags of a command that trains, and how it starts its job."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from graft.training.errors import ConfigurationError
from graft.training.settings.limits import require

if TYPE_CHECKING:
    from graft.training.launch.processes import Job


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on from the newest finished checkpoint")
    parser.add_argument("--ray", type=int, metavar="WORKERS", help="train on a cluster, in so many Ray Train workers")
    parser.add_argument("--ray-address", help="of a running cluster (default: one is started for this training)")


def say(text: str) -> None:
    """Prints before a training starts: of several processes of one launcher in the first."""
    if os.environ.get("RANK", "0") == "0":
        print(text, flush=True)


def launch(job: Job, args: argparse.Namespace) -> tuple[bool, Any]:
    """Trains here, with the processes of ``torchrun``, or through Ray.

    Returns whether this process speaks for all, and what ``execute`` returned, None from Ray.
    """
    if args.ray is None and args.ray_address is not None:
        raise ConfigurationError("--ray-address is for --ray WORKERS: add that, or leave it out.")
    if args.ray is not None:
        require(args.ray >= 1, "--ray", args.ray, "at least 1 worker")
        from graft.training.launch.ray import train_on_ray

        train_on_ray(job, num_workers=args.ray, address=args.ray_address, resume=args.resume)
        return True, None

    from graft.training.launch.processes import joined

    with joined() as processes:
        result = job.execute(processes, resume=args.resume or processes.continues(job.work))
        return processes.is_first, result
