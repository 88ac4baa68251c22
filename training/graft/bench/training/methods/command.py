"""``graft bench methods``: every way to fine-tune, on one task, from the training to the served answer."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.bench.training.comparison import Figure

HELP = "train every method on one task, serve what comes out, and compare"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these methods and comparisons (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep what is trained here (default: nothing is kept)")


def run(args: argparse.Namespace) -> int:
    """Train, serve, print a Markdown table and write. Returns 0."""
    from graft.bench.training.methods.beside import PARTS
    from graft.bench.training.methods.measured import before, measure
    from graft.bench.training.methods.table import figures, table
    from graft.bench.training.methods.trial import METHODS
    from graft.bench.training.report import table as figures_table
    from graft.bench.training.report import write_json
    from graft.training.errors import ConfigurationError

    known = [*METHODS, *PARTS]
    names = args.only or known
    if unknown := [name for name in names if name not in known]:
        raise ConfigurationError(f"--only {' '.join(unknown)}: the methods here are {', '.join(known)}.")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise ConfigurationError(f"--json {args.json}: there is no folder {args.json.absolute().parent}.")
    if args.work is not None and args.work.exists() and any(args.work.iterdir()):
        raise ConfigurationError(f"--work {args.work} is not empty: name a new folder.")
    with tempfile.TemporaryDirectory(prefix="graft-methods-") as name:
        folder = args.work or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, Figure] = {}
        if methods := [name for name in names if name in METHODS]:
            rows, base = measure(methods, folder), before()
            print(f"{table(rows)}\n\nthe base itself: {base:.0%}; 50 words that nothing asked about before, greedy")
            found |= figures(rows, before=base)
        for name in names:
            if name in PARTS:
                work = folder / name
                work.mkdir()
                of_part = PARTS[name](work)
                print(f"\n{figures_table(of_part)}")
                found |= of_part
    if args.json is not None:
        write_json(found, args.json)
    return 0
