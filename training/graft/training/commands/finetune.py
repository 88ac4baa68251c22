"""``graft finetune``: trains a LoRA adapter on a quantized base."""

import argparse
import os
from pathlib import Path

from graft.training.commands.base_argument import BASE
from graft.training.finetune.settings import FinetuneSettings
from graft.training.launch import launching
from graft.training.launch.machine import Machine, add_plan_flags, check_plan_flags
from graft.training.runtime.startup import prepare
from graft.training.settings.settings import add_flags, given

HELP = "train a LoRA adapter on a quantized base"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default="rootstock-5m", help=f"{BASE} (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, help="JSON lines with messages, or with prompt and completion; --plan needs none"
    )
    parser.add_argument("--name", help="name of the adapter; --plan needs none")
    parser.add_argument(
        "--output", type=Path, help="folder for checkpoints, metrics and adapter/ (default: .graft/finetune/NAME)"
    )
    parser.add_argument("--config", type=Path, help="YAML, JSON or TOML file of settings; flags win over it")
    launching.add_flags(parser)
    add_plan_flags(parser)
    parser.add_argument("--push", metavar="HOST:PORT", help="push the finished adapter to this server")
    parser.add_argument("--alias", help="alias that moves to the pushed version, such as canary or stable")
    add_flags(parser, FinetuneSettings)


def run(args: argparse.Namespace) -> int:
    prepare()
    from graft.adapters.base.base import Base, find_base
    from graft.adapters.base.hub import FILE_NAME, Hub
    from graft.adapters.names import check_adapter_name, check_name
    from graft.training.errors import ConfigurationError
    from graft.training.job.export import check_adapter_output

    settings = FinetuneSettings.from_mapping(given(args, FinetuneSettings))
    check_plan_flags(args)
    if args.plan:
        return _plan(args, settings)
    for flag in ("data", "name"):
        if getattr(args, flag) is None:
            raise ConfigurationError(f"--{flag} is missing; without it there is only --plan.")
    check_adapter_name(args.name)
    if args.alias is not None:
        check_name(args.alias, what="alias")
        if args.push is None:
            raise ConfigurationError("--alias moves an alias on a server; add --push HOST:PORT.")
    folder = args.output or Path(".graft") / "finetune" / args.name
    check_adapter_output(folder)
    found = find_base(args.base, hub=Hub(pins=folder / FILE_NAME))
    base = Base.from_folder(found, cache_dir=_hashes())

    from graft.training.finetune.job import Finetune

    job = Finetune(base=base, data=args.data, settings=settings, work=folder)
    if args.push is not None:
        from graft.training.job.publish import check_server_for

        check_server_for(args.push, base, job.form, rank=settings.r)
    is_first, _ = launching.launch(job, args)
    if not is_first:
        return 0
    adapter = folder / "adapter"
    print(f"adapter in {adapter}, all about it in {folder / 'report.html'}")
    if settings.validation is not None:
        print(_measured(folder, settings.validation))
    if args.push is not None:
        _push(args, adapter)
    return 0


def _hashes() -> Path:
    """In the user's cache (XDG Base Directory Specification): the folder that a command runs in is not for that."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "graft" / "hashes"


def _plan(args: argparse.Namespace, settings: FinetuneSettings) -> int:
    """From the base's configuration: of a hub nothing else is fetched."""
    from graft.adapters.base.base import find_base
    from graft.adapters.base.hub import Hub
    from graft.adapters.base.hub_id import HubId
    from graft.training.finetune.plan import plan

    on_hub = HubId.parse(args.base)
    is_folder = Path(args.base).expanduser().is_dir()
    folder = find_base(args.base) if on_hub is None or is_folder else Hub(pins=None).tokenizer(on_hub)
    print(plan(folder, settings, Machine.of(args)))
    return 0


def _measured(folder: Path, validation: str) -> str:
    """The last that was measured on what is held out."""
    from graft.training.loop.progress import read_metrics

    last = [row for row in read_metrics(folder) if row.get("validation_loss") is not None][-1]
    loss, perplexity = last["validation_loss"], last["validation_perplexity"]
    return f"after {last['step'] + 1} steps on {validation}: loss {loss:.4f}, perplexity {perplexity:.2f}"


def _push(args: argparse.Namespace, adapter: Path) -> None:
    from graft.training.job.publish import connect

    with connect(args.push) as client:
        pushed = client.push_adapter(adapter, name=args.name, alias=args.alias)
    alias = f", {args.alias} points to it" if args.alias else ""
    print(f"pushed as version {pushed.version.number} of {args.name} ({pushed.version.digest}){alias}")
