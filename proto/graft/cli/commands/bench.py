"""`graft bench`: throughput and latency of a server under concurrent streams; `graft bench NAME`: another benchmark.

The others are found in the entry-point group `graft.benchmarks`; their modules are like commands' modules.
"""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from graft.cli.command import BENCHMARKS, CommandUnavailable, find_commands

if TYPE_CHECKING:
    from graft.cli.benchmark import Load

HELP = "measure throughput and latency under concurrent streams, or run another benchmark"


def configure(parser: argparse.ArgumentParser) -> None:
    """The load, and the server to put it on; the other benchmarks with arguments of their own."""
    from graft.cli.connection import add_output_argument, add_token_argument

    parser.add_argument("--server", metavar="HOST:PORT", help="a running server (default: one of its own)")
    add_token_argument(parser)
    parser.add_argument(
        "--model", action="append", help="a model of the server, in turn where repeated (default: the base)"
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 32], help="at once (default: 1 16 32)")
    parser.add_argument("--rounds", type=int, default=4, help="requests per stream (default: 4)")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="default: 64")
    parser.add_argument("--max-tokens", type=int, default=64, help="tokens generated per request (default: 64)")
    add_output_argument(parser)
    _add_benchmarks(parser)


def _add_benchmarks(parser: argparse.ArgumentParser) -> None:
    others = parser.add_subparsers(
        dest="benchmark", metavar="BENCHMARK", title="other benchmarks", description="without one: a server under load"
    )
    for name, entry in find_commands(group=BENCHMARKS).items():
        other = others.add_parser(name, help=entry.help(), description=entry.help())
        with contextlib.suppress(CommandUnavailable):
            entry.load().configure(other)


def run(args: argparse.Namespace) -> int:
    """Print one line per number of streams, or run the benchmark that was named."""
    if args.benchmark:
        return find_commands(group=BENCHMARKS)[args.benchmark].load().run(args)
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from graft.cli.benchmark import measure
    from graft.cli.server_process import running_server

    load = _load(args)
    if args.server:
        return _print(args, measure(args.server, load, token=args.token))
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder, running_server(Path(folder)) as server:
        return _print(args, measure(server.target, load))


def _load(args: argparse.Namespace) -> Load:
    from graft.cli.benchmark import Load
    from graft.cli.failure import UserError

    smallest = min([*args.streams, args.rounds, args.prompt_tokens, args.max_tokens])
    if smallest < 1:
        raise UserError(f"streams, rounds and tokens must be at least 1, one is {smallest}")
    return Load(
        models=tuple(args.model or [""]),
        num_streams=tuple(args.streams),
        num_rounds=args.rounds,
        prompt_tokens=args.prompt_tokens,
        max_tokens=args.max_tokens,
    )


def _print(args: argparse.Namespace, results: list[dict[str, float]]) -> int:
    from graft.cli.terminal import as_json, table

    if args.output == "json":
        print(as_json(results))
    else:
        rows = [[f"{value:g}" for value in result.values()] for result in results]
        print(table([name.replace("_", " ") for name in results[0]], rows))
    return 1 if any(result["num_failed"] for result in results) else 0
