"""``graft bench methods``: every way to fine-tune, on one task, from the training to the served answer."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from graft.training.runtime.startup import prepare

if TYPE_CHECKING:
    from graft.bench.training.comparison import Figure

HELP = "train every method on one task, serve what comes out, and compare"
_MARK = "methods.txt"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these methods and comparisons (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="keep what is trained here; the same command goes on with what is missing there (default: beside --json, "
        "until all is done)",
    )


def run(args: argparse.Namespace) -> int:
    """Train, serve, print a Markdown table and write. Returns 1 where a method failed or fell short."""
    prepare()
    from graft.bench.training.methods.beside import PARTS
    from graft.bench.training.methods.trial import METHODS
    from graft.bench.training.report import write_json
    from graft.training.errors import ConfigurationError

    known = [*METHODS, *PARTS]
    names = args.only or known
    if unknown := [name for name in names if name not in known]:
        raise ConfigurationError(f"--only {' '.join(unknown)}: the methods here are {', '.join(known)}.")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise ConfigurationError(f"--json {args.json}: there is no folder {args.json.absolute().parent}.")
    with _folder(args) as work:
        found, is_whole = _measured(names, work)
        if args.json is not None:
            write_json(found, args.json)
        if args.work is None and args.json is not None:
            if is_whole:
                shutil.rmtree(work)
            else:
                print(f"\nkept in {work}: the same command goes on with what is missing")
    return 0 if is_whole else 1


@contextmanager
def _folder(args: argparse.Namespace) -> Iterator[Path]:
    """Where a run keeps what it comes to: ``--work``, or beside ``--json``."""
    from graft.training.errors import ConfigurationError

    if args.work is None and args.json is None:
        with tempfile.TemporaryDirectory(prefix="graft-methods-") as name:
            yield Path(name)
        return
    work: Path = (args.work or args.json.with_suffix(".work")).absolute()
    if work.exists() and not (work / _MARK).exists() and (not work.is_dir() or any(work.iterdir())):
        raise ConfigurationError(f"{work} holds something else: name a new folder with --work, or that of an old run.")
    work.mkdir(parents=True, exist_ok=True)
    (work / _MARK).write_text("of graft bench methods\n", encoding="utf-8")
    yield work


def _measured(names: Sequence[str], work: Path) -> tuple[dict[str, Figure], bool]:
    """And whether nothing failed or fell short."""
    from graft.bench.training.forks import forking
    from graft.bench.training.methods.beside import PARTS, part
    from graft.bench.training.methods.measuring import before, measure
    from graft.bench.training.methods.table import figures, table
    from graft.bench.training.methods.trial import METHODS
    from graft.bench.training.report import table as table_of_figures
    from graft.training.errors import TrainingError

    found: dict[str, Figure] = {}
    is_whole = True
    with forking():
        if methods := [name for name in names if name in METHODS]:
            base, rows = before(work), measure(methods, work)
            print(f"{table(rows)}\n\nthe base itself: {base:.0%}")
            found |= figures(rows, before=base)
            is_whole = not any(row.shortfall for row in rows.values())
        for name in names:
            if name not in PARTS:
                continue
            try:
                figures_of = part(name, work)
            except TrainingError as error:
                print(f"\n{name} failed: {error}")
                is_whole = False
            else:
                print(f"\n{table_of_figures(figures_of)}")
                found |= figures_of
    return found, is_whole
