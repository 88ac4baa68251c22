"""``graft scaling``: laws of loss, from trainings made here or published, and what they say of larger ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from graft.training.runtime.startup import prepare

HELP = "fit scaling laws to small trainings, and plan large ones by them"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    fit = actions.add_parser(
        "fit", help="train a grid of small models, or read one, and fit Chinchilla's and Kaplan's laws"
    )
    fit.add_argument("--text", help="files of text, separated by commas; a twentieth of the documents is held out")
    fit.add_argument("--points", type=Path, help="read `parameters`, `tokens`, `loss` from JSON lines, train nothing")
    fit.add_argument("--widths", default="32,48,64,80", help="of the models (default: %(default)s)")
    fit.add_argument("--tokens", default="500k,1M,2M", help="to train each on (default: %(default)s)")
    fit.add_argument(
        "--check",
        metavar="WIDTH:TOKENS",
        default="96:3M",
        help="a larger training that is predicted, made and not fitted; `none` for none (default: %(default)s)",
    )
    fit.add_argument("--folder", type=Path, default=Path(".graft/scaling"), help="for the trainings (%(default)s)")
    fit.add_argument("--flops", default="1e18", help="a budget to find the best N and D for (default: %(default)s)")
    plan = actions.add_parser("plan", help="the best N and D for a budget of arithmetic")
    plan.add_argument("--flops", required=True, help="such as 1e21; several, separated by commas")
    plan.add_argument(
        "--law", default="chinchilla", help="chinchilla, besiroglu, kaplan, or the law.json of `fit` (%(default)s)"
    )
    actions.add_parser("cluster", help="predicted speed of Llama-3-8B and 405B layouts, beside what is published")


def run(args: argparse.Namespace) -> int:
    prepare()
    return {"fit": _fit, "plan": _plan, "cluster": _cluster}[args.action](args)


def _fit(args: argparse.Namespace) -> int:
    from graft.training.errors import ConfigurationError
    from graft.training.scaling.report import read_points, report
    from graft.training.settings.limits import number

    budget = number("--flops", args.flops)
    if (args.text is None) == (args.points is None):
        raise ConfigurationError("give --text to train a grid on, or --points to read one.")
    if args.points is not None:
        points = read_points(args.points)
        args.folder.mkdir(parents=True, exist_ok=True)
        print(report(points, [], args.folder, budget=budget))
        return 0

    from graft.training.pretrain.sources import documents_of
    from graft.training.scaling.grid import Cell, Grid

    widths = [int(number("--widths", one)) for one in args.widths.split(",")]
    amounts = [int(number("--tokens", one)) for one in args.tokens.split(",")]
    checks = []
    if args.check != "none":
        width, _, tokens = args.check.partition(":")
        checks = [Cell(width=int(number("--check", width)), tokens=int(number("--check", tokens)))]
    grid = Grid(documents_of(args.text.split(",")), args.folder)
    cells = [Cell(width=width, tokens=tokens) for width in widths for tokens in amounts]
    grid.check([*cells, *checks])
    points = [grid.point(cell) for cell in cells]
    print(report(points, [grid.point(cell) for cell in checks], args.folder, budget=budget))
    return 0


def _plan(args: argparse.Namespace) -> int:
    from graft.training.scaling.report import law_of, optima
    from graft.training.settings.limits import number

    law = law_of(args.law)
    print(optima(law, [number("--flops", one) for one in args.flops.split(",")]))
    return 0


def _cluster(args: argparse.Namespace) -> int:
    from graft.training.scaling.cluster import table

    print(table())
    return 0
