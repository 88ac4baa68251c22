"""`graft bases`: the bases that a server keeps."""

from __future__ import annotations

import argparse

HELP = "list and push the bases that a server keeps"


def configure(parser: argparse.ArgumentParser) -> None:
    """One sub-command per verb."""
    from graft.cli.connection import add_output_argument, add_server_argument

    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    show = verbs.add_parser("list", help="all bases, and which of them is served")
    push = verbs.add_parser("push", help="upload a Hugging Face folder, to be served when a server starts on it")
    push.add_argument("folder")
    push.add_argument("--name", required=True, help="what it is to be called")
    for verb in (show, push):
        add_server_argument(verb)
        add_output_argument(verb)


def run(args: argparse.Namespace) -> int:
    """Call the server once and print."""
    from graft.cli.connection import connect
    from graft.cli.terminal import as_json, short, table

    with connect(args) as client:
        if args.verb == "push":
            found = [client.push_base(args.folder, name=args.name)]
        else:
            found = client.bases()
    rows = [(base.name, short(base.digest), "yes" if base.served else "") for base in found]
    print(as_json(found) if args.output == "json" else table(("BASE", "DIGEST", "SERVED"), rows))
    return 0
