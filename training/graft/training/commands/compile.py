"""``graft compile``: makes of an adapter of any method what a server takes."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from graft.training.commands.arguments.base import BASE
from graft.training.runtime.startup import prepare

if TYPE_CHECKING:
    from graft.adapters.base.base import Base
    from graft.adapters.form import ServingForm
    from graft.training.adapt.compiler.report import Report

HELP = "make a LoRA adapter, or a new base, of an adapter of any method"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", type=Path, metavar="FOLDER", help="the adapter, as PEFT saved it")
    parser.add_argument("--base", default="rootstock-5m", help=f"what it was trained on: {BASE} (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    in_4bit = "how the base is served (default: as graft.json says, else NF4; --no-load-in-4bit means bfloat16)"
    parser.add_argument("--load-in-4bit", action=argparse.BooleanOptionalAction, help=in_4bit)
    parser.add_argument("--load-in-8bit", action=argparse.BooleanOptionalAction, help="LLM.int8 instead")
    parser.add_argument("--merge", action="store_true", help="make a base, even where an adapter would be exact")
    parser.add_argument("--svd", type=int, metavar="RANK", help="make the nearest LoRA adapter of this rank")
    parser.add_argument(
        "--max-error", type=float, metavar="SHARE", help="refuse what is further from the update, relative to its norm"
    )
    parser.add_argument(
        "--initial",
        type=Path,
        metavar="FOLDER",
        help="the adapter before its first step, where that changed the base and cannot be repeated (CorDA, LoftQ, …)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here, as into DIR")
    parser.add_argument("--push", metavar="HOST:PORT", help="push what was made to this server")
    parser.add_argument("--name", help="name of the adapter or of the base there")
    parser.add_argument("--alias", help="alias that moves to the pushed version, such as canary or stable")


def run(args: argparse.Namespace) -> int:
    prepare()
    from graft.adapters.base.base import Base, find_base
    from graft.adapters.base.hub import Hub

    _check(args)
    base = Base.from_folder(find_base(args.base, hub=Hub()))
    form = _form(args, base)

    from graft.training.adapt.compiler.compilation import Compilation

    if args.push is not None:
        from graft.training.job.publish import check_server_for

        check_server_for(args.push, base, form, rank=1)
    report = Compilation(
        adapter=args.adapter,
        base=base,
        form=form,
        output=args.output,
        initial=args.initial,
        merge=args.merge,
        svd_rank=args.svd,
        max_error=args.max_error,
    ).execute()
    print(report)
    what = "an adapter" if report.rank is not None else "a base"
    print(f"{what} in {args.output}: {_next(args.output, report)}")
    if args.json is not None:
        args.json.write_text(report.as_json(), encoding="utf-8")
    if args.push is not None:
        _push(args, report)
    return 0


def _next(made: Path, report: "Report") -> str:
    """What people type to have it served; a base that was merged keeps its weights as they were written."""
    folder = shlex.quote(str(made))
    if report.rank is None:
        return f"graft serve --base {folder} --quantization bf16"
    return f"graft adapters push {folder} --name NAME --alias stable"


def _check(args: argparse.Namespace) -> None:
    from graft.adapters.names import check_adapter_name, check_name
    from graft.training.adapt.settings import MAX_RANK
    from graft.training.errors import ConfigurationError

    wrong = []
    if args.svd is not None and not 1 <= args.svd <= MAX_RANK:
        wrong.append(f"--svd is {args.svd}; it must lie from 1 to {MAX_RANK}, the largest rank of the engine")
    if args.max_error is not None and not 0 < args.max_error < float("inf"):
        wrong.append(f"--max-error is {args.max_error}; it must be above 0 and finite")
    if args.load_in_4bit and args.load_in_8bit:
        wrong.append("--load-in-4bit and --load-in-8bit exclude each other")
    if args.push is None and (args.name is not None or args.alias is not None):
        wrong.append("--name and --alias are what a server is told: add --push HOST:PORT")
    if args.push is not None and args.name is None:
        wrong.append("--push needs a --name")
    if wrong:
        raise ConfigurationError(f"{'; '.join(wrong)}.")
    if args.name is not None:
        check_adapter_name(args.name)
    if args.alias is not None:
        check_name(args.alias, what="alias")


def _form(args: argparse.Namespace, base: "Base") -> "ServingForm":
    """As the flags say, else as the adapter's trainer recorded; of a quantized folder its own."""
    from graft.adapters.folder.record import TrainedRecord
    from graft.adapters.form import ServingForm

    if base.form is not None:
        return base.form
    if args.load_in_8bit:
        return ServingForm.LLM_INT8
    if args.load_in_4bit is not None:
        return ServingForm.NF4 if args.load_in_4bit else ServingForm.BF16
    trained = TrainedRecord.read(args.adapter)
    return ServingForm.NF4 if trained is None else trained.form


def _push(args: argparse.Namespace, report: "Report") -> None:
    from graft.training.job.publish import connect

    with connect(args.push) as client:
        if report.rank is None:
            client.push_base(args.output, name=args.name)
            print(f"pushed as the base {args.name}: a server that starts on the same data serves it by this name")
            return
        pushed = client.push_adapter(args.output, name=args.name, alias=args.alias)
    alias = f", {args.alias} points to it" if args.alias else ""
    print(f"pushed as version {pushed.version.number} of {args.name} ({pushed.version.digest}){alias}")
