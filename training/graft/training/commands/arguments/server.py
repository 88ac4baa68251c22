"""Which server the commands ask, and who asks."""

import argparse
import os
from typing import Any


def add_server_argument(parser: Any, *, default: str | None = "localhost:8470", told: str = "") -> None:
    """Add ``--server`` to a parser, or a group of its arguments; ``GRAFT_SERVER`` goes before the default, which
    ``told`` puts in words.
    """
    parser.add_argument(
        "--server",
        default=os.environ.get("GRAFT_SERVER") or default,
        metavar="HOST:PORT",
        help=f"a running server (default: $GRAFT_SERVER, else {told or default})",
    )


def add_token_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--token``."""
    parser.add_argument(
        "--token",
        default=os.environ.get("GRAFT_TOKEN") or None,
        help="says to the server who calls; better than here, where others see it, it stands in $GRAFT_TOKEN",
    )
