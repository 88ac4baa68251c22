"""Which server a command talks to."""

from __future__ import annotations

import argparse
import math
import os

from graft.client import DEFAULT_TARGET, Client


def add_server_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--server` and `--timeout`."""
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=os.environ.get("GRAFT_SERVER", DEFAULT_TARGET),
        help="the server's gRPC address (default: $GRAFT_SERVER or %(default)s)",
    )
    parser.add_argument("--timeout", type=_seconds, default=120.0, metavar="SECONDS", help="per call (default: 120)")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: give seconds above 0, such as 120")
    return seconds


def connect(args: argparse.Namespace) -> Client:
    """A client for the chosen server."""
    return Client(args.server, timeout=args.timeout)


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--output`."""
    parser.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
