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
    parser.add_argument("-n", "--num-choices", type=int, default=1, help="continuations (default: 1)")
    add_sampling_arguments(parser)
    add_server_argument(parser)
    add_output_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the continuation as it comes, and on standard error who gave it."""
    from graft.cli.connection import connect
    from graft.cli.sampling import answered_by, sampling_options
    from graft.cli.terminal import as_json, paint

    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
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
