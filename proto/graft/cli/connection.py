"""Which server a command talks to."""

from __future__ import annotations

import argparse
import math
import os

from graft.client import DEFAULT_TARGET, Client
from graft.client.channel import checked_token


def add_server_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--server`, `--token` and `--timeout`."""
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=os.environ.get("GRAFT_SERVER", DEFAULT_TARGET),
        help="the server's gRPC address (default: $GRAFT_SERVER or %(default)s)",
    )
    add_token_argument(parser)
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="per call; a file has more, by its size (default: 120)",
    )


def add_token_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--token`."""
    parser.add_argument(
        "--token",
        type=_token,
        default=os.environ.get("GRAFT_TOKEN") or None,
        help="says to the server who calls; better than here, where others see it, it stands in $GRAFT_TOKEN",
    )


def _token(text: str) -> str:
    try:
        return checked_token(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
    return Client(args.server, timeout=args.timeout, token=args.token)


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--output`."""
    parser.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
