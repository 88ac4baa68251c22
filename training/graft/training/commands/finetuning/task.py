"""``graft finetune --task``: trains a model with a head, or from text to text."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from graft.training.errors import ConfigurationError
from graft.training.launch import launching
from graft.training.settings.settings import TrainingSettings, add_flags, given
from graft.training.tasks.names import TEXT
from graft.training.tasks.settings import LORA, TaskSettings

if TYPE_CHECKING:
    from graft.adapters.base.base import Base
    from graft.training.job.sources import Sources


def configure(parser: argparse.ArgumentParser, besides: type[TrainingSettings]) -> None:
    """Adds the flags that the command has not already by the settings of ``besides``."""
    add_flags(parser, TaskSettings, title="settings of --task", besides=besides)


def is_meant(args: argparse.Namespace, besides: type[TrainingSettings]) -> bool:
    """Whether a task is named, by a flag or in the file of ``--config``.

    Raises ``ConfigurationError`` for flags of a task without one, and for those of ``besides`` with one.
    """
    is_task = "task" in given(args, TaskSettings)
    own, others = (TaskSettings, besides) if is_task else (besides, TaskSettings)
    known = {field.name for field in dataclasses.fields(own)}
    strange = [field.name for field in dataclasses.fields(others) if field.name not in known]
    if said := [name for name in strange if getattr(args, name, None) is not None]:
        where = "has no effect with --task" if is_task else "is for --task"
        raise ConfigurationError(f"setting {', '.join(map(repr, said))} {where}: leave it out, or change that.")
    return is_task


def check(args: argparse.Namespace) -> None:
    """Raises ``ConfigurationError`` for what cannot be done with a task, before a base is looked for."""
    for flag in ("plan", "sweep", "audit"):
        if getattr(args, flag):
            raise ConfigurationError(f"--{flag} is for what serves text, and --task makes a head: leave it out.")
    _settings(args)


def _settings(args: argparse.Namespace) -> TaskSettings:
    values = given(args, TaskSettings)
    return TaskSettings.from_mapping({name: value for name, value in values.items() if name != "data"})


def run(args: argparse.Namespace, base: Base, data: Sources, folder: Path) -> int:
    """Trains in ``folder``."""
    settings = _settings(args)

    from graft.training.tasks.job import TrainTask, made_in
    from graft.training.tasks.measured import told
    from graft.training.tasks.record import TaskRecord

    launching.say(_way(base, settings, args.push))
    job = TrainTask(base=base, data=data.only, settings=settings, work=folder)
    is_first, _ = launching.launch(job, args)
    if not is_first:
        return 0
    made = made_in(folder)
    print(f"{made.name} in {made}, all about it in {folder / 'report.html'}")
    if settings.validation is not None:
        print(f"on {settings.validation}: {told(TaskRecord.read(made).metrics)}")
    if args.push is not None:
        from graft.training.commands.arguments.pushing import push

        push(args.push, made, name=args.name, alias=args.alias)
    return 0


def _way(base: Base, settings: TaskSettings, push: str | None) -> str:
    """By which method it is learned, and whether servers take it.

    Raises ``ConfigurationError`` where ``push`` names a server and none, or not this one, would take what is made.
    """
    from transformers import AutoConfig

    from graft.training.job.publish import check_server_for
    from graft.training.model.family import facts_of
    from graft.training.tasks.checks import decided, form_of, is_served

    config = AutoConfig.from_pretrained(base.path, local_files_only=True)
    settings, kind = decided(settings, config), facts_of(config).kind
    is_taken = is_served(settings, config)
    if push is not None and not is_taken:
        raise ConfigurationError(
            f"--push {push}: servers take heads for {TEXT} that decoders learn by {LORA}, and this is "
            f"{settings.task} by {settings.method} on the {kind} {base.name}: leave --push out, and measure it with "
            "graft evaluate heads."
        )
    if push is not None:
        check_server_for(push, base, form_of(base, settings), rank=settings.r, has_head=True)
    way = "served as it is, for graft classify" if is_taken else "no server takes it; graft evaluate heads measures it"
    return f"{settings.task} by {settings.method} on {base.name} ({kind}): {way}"
