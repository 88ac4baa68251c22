"""`graft chat`: talk to the base or an adapter, one message or many."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.client import Client, SamplingOptions

HELP = "talk to the base or an adapter"

Turn = dict[str, str]


def configure(parser: argparse.ArgumentParser) -> None:
    """Message, sampling, server."""
    from graft.cli.connection import add_server_argument
    from graft.cli.sampling import add_sampling_arguments

    parser.add_argument("message", nargs="?", help="one message; without it, a conversation until Ctrl-D")
    parser.add_argument("--system", help="a system message")
    add_sampling_arguments(parser)
    add_server_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Answer the message, or every line typed."""
    from graft.cli.connection import connect
    from graft.cli.sampling import check_utf8, sampling_options

    check_utf8(args)
    turns: list[Turn] = [{"role": "system", "content": args.system}] if args.system else []
    options = sampling_options(args)
    with connect(args) as client:
        if args.message is not None:
            _answer(client, [*turns, {"role": "user", "content": args.message}], args.model, options)
            return 0
        return _converse(client, turns, args.model, options)


def _converse(client: Client, turns: list[Turn], model: str, options: SamplingOptions) -> int:
    from graft.cli.terminal import paint
    from graft.client import GraftClientError

    # Line editing and history, where Python was built with them.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    if sys.stdin.isatty():
        print(paint("/model NAME changes who answers, /new begins anew, Ctrl-D ends", "dim"))
    while (line := _read_line(model)) is not None:
        if line.startswith("/model"):
            model = line.removeprefix("/model").strip()
        elif line == "/new":
            turns = [turn for turn in turns if turn["role"] == "system"]
        elif line:
            asked = [*turns, {"role": "user", "content": line}]
            try:
                turns = [*asked, {"role": "assistant", "content": _answer(client, asked, model, options)}]
            except GraftClientError as error:
                print(paint(str(error), "red"), file=sys.stderr)
    return 0


def _read_line(model: str) -> str | None:
    try:
        return input(f"{model or 'base'}> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


def _answer(client: Client, turns: list[Turn], model: str, options: SamplingOptions) -> str:
    from graft.cli.sampling import answered_by
    from graft.cli.terminal import paint

    answer, answerer = "", None
    for chunk in client.stream(turns, model=model, **options):
        print(chunk.text, end="", flush=True)
        answer, answerer = answer + chunk.text, chunk.answerer
    print()
    print(paint(f"— {answered_by(answerer)}", "dim", stream=sys.stderr), file=sys.stderr)
    return answer
