"""`graft generate`: continue a text."""

from __future__ import annotations

import argparse
import sys

HELP = "continue a text with the base or an adapter"


def configure(parser: argparse.ArgumentParser) -> None:
    """Prompt, sampling, server."""
    from graft.cli.connection import add_output_argument, add_server_argument
    from graft.cli.sampling import add_sampling_arguments

    parser.add_argument("prompt", help="the text; - reads standard input")
    parser.add_argument("-n", "--num-choices", type=_num_choices, default=1, help="continuations (default: 1)")
    add_sampling_arguments(parser)
    add_server_argument(parser)
    add_output_argument(parser)


def _num_choices(text: str) -> int:
    from graft.client.request import MAX_CHOICES

    if not text.isdecimal() or not 1 <= int(text) <= MAX_CHOICES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of choices: give 1 to {MAX_CHOICES}")
    return int(text)


def _read_stdin() -> str:
    from graft.cli.failure import UserError
    from graft.cli.sampling import checked_utf8

    try:
        return checked_utf8(sys.stdin.read(), "standard input")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 at byte {error.start}: convert it, as with iconv") from None


def run(args: argparse.Namespace) -> int:
    """Print the continuation as it comes, and on standard error who gave it."""
    from graft.cli.connection import connect
    from graft.cli.sampling import answered_by, check_utf8, sampling_options
    from graft.cli.terminal import as_json, paint

    check_utf8(args)
    prompt = _read_stdin() if args.prompt == "-" else args.prompt
    options = sampling_options(args)
    with connect(args) as client:
        if args.output == "json" or args.num_choices > 1:
            result = client.generate(prompt, model=args.model, num_choices=args.num_choices, **options)
            choices = [{"text": choice.text, "finish_reason": choice.finish_reason} for choice in result.choices]
            if args.output == "json":
                print(as_json({"choices": choices, "answerer": result.answerer, "usage": result.usage}))
            else:
                print("\n---\n".join(choice["text"] for choice in choices))
            return 0
        answerer = None
        for chunk in client.stream(prompt, model=args.model, **options):
            print(chunk.text, end="", flush=True)
            answerer = chunk.answerer
    print()
    print(paint(f"— {answered_by(answerer)}", "dim", stream=sys.stderr), file=sys.stderr)
    return 0
