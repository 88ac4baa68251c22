"""Sub-commands that each call a server and print what it answered."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.client import Client

Shown = tuple[object, str]
"""What `--output json` prints, and what a person reads; nothing where that is empty."""
Act = Callable[["Client", argparse.Namespace], Shown]


def add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, act: Act, help: str
) -> argparse.ArgumentParser:
    """A sub-command that asks a server."""
    from graft.cli.connection import add_output_argument, add_server_argument

    parser = verbs.add_parser(name, help=help, description=help)
    add_server_argument(parser)
    add_output_argument(parser)
    parser.set_defaults(act=act)
    return parser


def run_verb(args: argparse.Namespace) -> int:
    """Call the server and print."""
    from graft.cli.connection import connect
    from graft.cli.terminal import as_json

    with connect(args) as client:
        value, text = args.act(client, args)
    if args.output == "json" or text:
        print(as_json(value) if args.output == "json" else text)
    return 0
