"""``graft prune``: writes a base with zeros in its layers."""

import argparse
from pathlib import Path

from graft.training.commands.arguments.base import BASE
from graft.training.runtime.startup import prepare
from graft.training.settings.limits import count_of

HELP = "write a base in whose layers a share of the weights are zeros"
_METHODS = ("sparsegpt", "wanda", "magnitude")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help=f"{BASE}; its weights must be plain")
    parser.add_argument(
        "--method",
        choices=_METHODS,
        default="sparsegpt",
        help="sparsegpt and wanda are calibrated, magnitude is not (default: %(default)s)",
    )
    how_many = parser.add_mutually_exclusive_group(required=True)
    how_many.add_argument("--sparsity", type=float, metavar="SHARE", help="of zeros in each layer, such as 0.5")
    how_many.add_argument("--pattern", metavar="N:M", help="N of M neighbours stay, such as 2:4")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="a file of text, as of `pretrain --text` (default for a shipped base: documents like its own)",
    )
    parser.add_argument(
        "--calibration-tokens", type=count_of("tokens"), default=32_768, metavar="N", help="default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    prepare()
    from graft.adapters.base.base import Base, find_base
    from graft.adapters.base.hub import Hub
    from graft.training.commands.arguments.calibration_text import calibration_text
    from graft.training.compress.prune import told
    from graft.training.compress.prune.prune import Method, Pruning
    from graft.training.compress.prune.sparsity import Sparsity
    from graft.training.report.report import leave

    by_share = args.sparsity is not None
    sparsity = Sparsity.anywhere(args.sparsity) if by_share else Sparsity.pattern(args.pattern)
    origin, method = Base.from_folder(find_base(args.base, hub=Hub())), Method(args.method)
    made = Pruning(
        base=origin,
        method=method,
        sparsity=sparsity,
        output=args.output,
        text=calibration_text(args.data, origin, needed=method is not Method.MAGNITUDE),
        num_tokens=args.calibration_tokens,
    ).execute()
    page = told.page_of(args.output)
    leave(page, lambda: told.write(made, origin))
    print(f"{made.name} in {args.output}, a base of its own ({made.digest}), all about it in {page}")
    print(_summary(args.output))
    return 0


def _summary(folder: Path) -> str:
    from graft.adapters.base.pruned import PrunedRecord

    record = PrunedRecord.read(folder)
    assert record is not None
    zeros = [layer.zeros for layer in record.layers.values()]
    told = f"{len(zeros)} layers, from {min(zeros):.1%} to {max(zeros):.1%} zeros"
    errors = {path: layer.error for path, layer in record.layers.items() if layer.error is not None}
    if errors:
        worst = max(errors, key=lambda path: errors[path])
        mean = sum(errors.values()) / len(errors)
        told += f"; outputs err by {mean:.2%} on average, most in {worst} ({errors[worst]:.2%})"
    return told
