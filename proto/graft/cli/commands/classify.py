"""`graft classify`: what does an adapter's head say of these texts?"""

from __future__ import annotations

import argparse

HELP = "classes of texts, by an adapter that was trained with a head"


def configure(parser: argparse.ArgumentParser) -> None:
    """Texts, adapter, server."""
    from graft.cli.connection import add_output_argument, add_server_argument

    parser.add_argument("text", nargs="+")
    parser.add_argument("--pair", metavar="TEXT", help="the other text of each pair: a premise's hypothesis")
    parser.add_argument("--model", required=True, help="<adapter>, <adapter>:<alias> or <adapter>@<version>")
    parser.add_argument(
        "--truncate-prompt-tokens", type=int, metavar="N", help="cut the last tokens of texts that have more than N"
    )
    add_server_argument(parser)
    add_output_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print one line per text, with its likeliest label and that one's probability, or the number."""
    from graft.cli.connection import connect
    from graft.cli.sampling import check_utf8
    from graft.cli.terminal import as_json, table

    check_utf8(args)
    inputs = args.text if args.pair is None else [(text, args.pair) for text in args.text]
    with connect(args) as client:
        response = client.classify(inputs, model=args.model, truncate_prompt_tokens=args.truncate_prompt_tokens)
    if args.output == "json":
        print(as_json(response))
        return 0
    found = zip(args.text, response.classifications, strict=True)
    if response.labels:
        rows = [(one.label, f"{max(one.probs):.4f}", repr(text)) for text, one in found]
        print(table(("LABEL", "PROBABILITY", "TEXT"), rows))
    else:
        print(table(("NUMBER", "TEXT"), [(f"{one.outputs[0]:.6g}", repr(text)) for text, one in found]))
    return 0
