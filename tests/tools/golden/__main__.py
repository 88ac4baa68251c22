"""What a change of the code's plan must not change, recorded with the `graft` of the environment that this runs in.

On two commits: `wire --out FILE` and `trainings --out FILE`, then `compare OLD NEW`; `walks --out FILE`; and
`speed --old PYTHON --new PYTHON`, which runs the servers of two environments in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.tools.golden import speed, trainings, walks, wire
from tests.tools.golden.compare import differences


def main() -> int:
    args = _parser().parse_args()
    if args.command == "compare":
        return _compare(args.old, args.new)
    found = _recorded(args)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(f"{len(found)} rows in {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.golden", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("wire", "exchanges with one server over HTTP and gRPC"),
        ("trainings", "weights and losses of small trainings"),
        ("walks", "files that requests and trainings pass through"),
        ("speed", "ratios of speed of two environments, in pairs"),
    ):
        commands.add_parser(name, help=text).add_argument("--out", type=Path, required=name != "speed")
    commands.choices["trainings"].add_argument("--only", nargs="*", default=(), metavar="WORD", help="in their names")
    timing = commands.choices["speed"]
    timing.add_argument("--old", required=True, metavar="PYTHON")
    timing.add_argument("--new", required=True, metavar="PYTHON")
    timing.add_argument("--rounds", type=int, default=5, help="each with servers and trainings of its own (5)")
    timing.add_argument("--pairs", type=int, default=8, help="of windows in a round (8)")
    timing.add_argument("--streams", type=int, nargs="+", default=[1, 32])
    comparing = commands.add_parser("compare", help="print where two recordings differ; 1 where they do")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    return parser


def _recorded(args: argparse.Namespace) -> Mapping[str, Any]:
    if args.command == "wire":
        return wire.record()
    if args.command == "trainings":
        return trainings.record(args.only)
    if args.command == "walks":
        found = walks.record()
        print(walks.table(found))
        return found
    pair = speed.Pair(old=args.old, new=args.new)
    ratios = speed.measure(pair, num_rounds=args.rounds, num_pairs=args.pairs, num_streams=args.streams)
    print(speed.table(ratios))
    return speed.as_json(ratios)


def _compare(old: Path, new: Path) -> int:
    before, after = (json.loads(path.read_text()) for path in (old, new))
    found = list(differences(before, after))
    print(*found, f"{len(before)} rows before, {len(after)} after, {len(found)} differences", sep="\n")
    return 1 if found or not before else 0


if __name__ == "__main__":
    sys.exit(main())
