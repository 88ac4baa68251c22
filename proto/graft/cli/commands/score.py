"""`graft score`: how likely are these continuations?"""

from __future__ import annotations

import argparse

HELP = "log-probabilities of given continuations after a prompt"


def configure(parser: argparse.ArgumentParser) -> None:
    """Prompt, continuations, server."""
    from graft.cli.connection import add_output_argument, add_server_argument

    parser.add_argument("prompt")
    parser.add_argument("continuation", nargs="+")
    parser.add_argument("--model", default="", help="<adapter>, <adapter>:<alias> or <adapter>@<version>")
    add_server_argument(parser)
    add_output_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print one line per continuation, likeliest first."""
    from graft.cli.connection import connect
    from graft.cli.sampling import check_utf8
    from graft.cli.terminal import as_json, table

    check_utf8(args)
    with connect(args) as client:
        response = client.score(args.prompt, args.continuation, model=args.model)
    if args.output == "json":
        print(as_json(response))
        return 0
    scored = sorted(zip(args.continuation, response.scores, strict=True), key=lambda pair: -pair[1].logprob)
    rows = [
        (f"{score.logprob:.4f}", len(score.tokens), "yes" if score.is_greedy else "no", repr(continuation))
        for continuation, score in scored
    ]
    print(table(("LOGPROB", "TOKENS", "GREEDY", "CONTINUATION"), rows))
    return 0
