"""`graft bench lora`: what adapters cost, on this machine, against the bare base and against others' servers."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "measure what LoRA adapters cost: against the bare base, stock vLLM and PEFT"

_DEFAULT_PAIRS, _QUICK_PAIRS, _MAX_PAIRS = 8, 2, 1000


class InvalidPlan(ValueError):
    """What was asked for cannot be measured; says why in one line."""

    exit_code = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Which base, which figures, and where the results go."""
    parser.add_argument(
        "--shape",
        default="smollm2-135m",
        choices=("smollm2-135m", "qwen3-0.6b", "shipped"),
        help="random weights of a known shape, or the shipped base (default: smollm2-135m)",
    )
    parser.add_argument(
        "--form",
        nargs="+",
        metavar="FORM",
        help="bf16, nf4, …; of several, the names of all but the first end in _FORM (default: bf16; shipped: nf4)",
    )
    parser.add_argument("--only", metavar="NAME,…", help="only these, e.g. R4,R8,prefill,zipf,stock,peft")
    parser.add_argument(
        "--pairs", type=int, help=f"paired windows per figure (default: {_DEFAULT_PAIRS}, quick: {_QUICK_PAIRS})"
    )
    parser.add_argument("--quick", action="store_true", help="two minutes on the shipped base, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="write a picture (PNG) here (default: beside the JSON)"
    )
    parser.add_argument("--folder", type=Path, help="keep bases and adapters here for the next run (default: nowhere)")


def run(args: argparse.Namespace) -> int:
    """Measure, print and write. Returns 0, or 1 where no figure at all could be taken."""
    shape = "shipped" if args.quick else args.shape
    forms = args.form or ["nf4" if shape == "shipped" else "bf16"]
    num_pairs = _num_pairs(args)
    only = _only(args.only)
    for path in (args.json, args.picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidPlan(f"{path}: there is no folder {path.absolute().parent}")

    from graft.adapters.form import ServingForm
    from graft.bench.serving.measurements.measurements import NAMES, chosen
    from graft.bench.serving.run import Plan, measure
    from graft.bench.serving.shapes import SHAPES

    for name in only or ():
        if name not in NAMES:
            raise InvalidPlan(f"--only {name}: there is no such measurement; there are {', '.join(NAMES)}")
    for form in forms:
        if form not in list(ServingForm):
            raise InvalidPlan(f"--form {form}: must be one of {', '.join(ServingForm)}")
    picture = args.picture or (args.json.with_suffix(".png") if args.json else Path("bench-lora.png"))
    return measure(
        Plan(
            shape=SHAPES[shape],
            forms=tuple(dict.fromkeys(ServingForm(form) for form in forms)),
            measurements=tuple(chosen(only, quick=args.quick)),
            num_pairs=num_pairs,
            quick=args.quick,
            folder=args.folder,
            json=args.json,
            picture=picture,
        )
    )


def _num_pairs(args: argparse.Namespace) -> int:
    if args.pairs is None:
        return _QUICK_PAIRS if args.quick else _DEFAULT_PAIRS
    if not 1 <= args.pairs <= _MAX_PAIRS:
        raise InvalidPlan(f"--pairs {args.pairs}: must lie between 1 and {_MAX_PAIRS}")
    return int(args.pairs)


def _only(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InvalidPlan("--only names nothing")
    return names
