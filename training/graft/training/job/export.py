"""Writing finished folders: a base in Hugging Face format, and anything else that must appear whole, in the place of
nothing that is another's.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from graft.adapters.base.file_names import is_base_file
from graft.training.errors import ConfigurationError, NotMeasured, first_line
from graft.training.runtime.disk import GO_ON, check_makeable, remove, written

_PARTS = frozenset(("generator",))
"""Folders inside a base's: the models beside it."""


def write_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, *, card: str) -> None:
    """Writes weights, configuration, tokenizer, chat template and model card into ``folder``."""
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    write_models({"": model}, tokenizer, folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    make_readable(folder)


def write_models(models: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes each model into its part of ``folder``, the base's own into the folder itself; the tokenizer beside it."""
    for part, model in models.items():
        model.save_pretrained(folder / part)
    tokenizer.save_pretrained(folder)


def make_readable(folder: Path) -> None:
    """Lets everybody read what is in a folder; safetensors writes its files for the owner alone."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def check_output(output: Path, *, work: Path, inputs: Iterable[Path]) -> None:
    """Raises ``ConfigurationError`` where a base cannot be written, or would take the place of something else."""
    if not output.name:
        raise ConfigurationError(f"--output {str(output)!r} is no folder's name: give one, such as my-base.")
    if output.exists() and not output.is_dir():
        raise ConfigurationError(f"--output {output} is a file: name a folder that is not there yet.")
    target = output.absolute()
    for path in (work, *inputs):
        if path.absolute().is_relative_to(target):
            raise ConfigurationError(f"--output {output} would take the place of {path}: choose another folder.")
    foreign = [] if not output.is_dir() else [one.name for one in output.iterdir() if not _belongs(one)]
    if foreign:
        raise ConfigurationError(
            f"--output {output} holds what is no base's ({', '.join(sorted(foreign)[:3])}): choose another folder."
        )
    check_makeable(output, "--output")


def check_replaced(output: Path, *, is_own: Callable[[Path], bool]) -> None:
    """Raises ``ConfigurationError`` where a base lies in ``output`` that this training did not make."""
    if output.is_dir() and any(output.iterdir()) and not is_own(output):
        raise ConfigurationError(
            f"--output {output} holds a finished base that is not this training's: choose another --output, or remove "
            "that folder first."
        )


_OTHERS = ("config.json", "adapter_config.json", "tokens.json")
"""Each stands for a finished folder: a base, an adapter, tokens."""


def check_adapter_output(output: Path) -> None:
    """Raises ``ConfigurationError`` where a fine-tuning would write into what is something else."""
    if output.exists() and not output.is_dir():
        raise ConfigurationError(f"--output {output} is a file: name a folder that is not there yet.")
    if found := next((name for name in _OTHERS if (output / name).exists()), None):
        raise ConfigurationError(f"--output {output} holds what is no fine-tuning's ({found}): choose another folder.")
    check_makeable(output, "--output")


def _belongs(path: Path) -> bool:
    return is_base_file(path.name) or (path.is_dir() and path.name in _PARTS)


def put_in_place(target: Path, write: Callable[[Path], None], *, remedy: str = GO_ON) -> None:
    """Lets ``write`` fill a folder beside ``target``, then renames it: a reader sees the old folder or the new one,
    never half of either.

    Raises ``NotWritten`` where the disk refuses it, and ends in ``remedy``.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    old = target.with_name(f".{target.name}.old.{os.getpid()}")
    with written(target, draft=draft, remedy=remedy):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(draft)
        draft.mkdir()
        write(draft)
        if target.exists():
            target.rename(old)
        try:
            draft.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    remove(old)


@contextlib.contextmanager
def behind_it(target: Path, *, what: str, remedy: str) -> Iterator[None]:
    """What is done with a model whose folder is in place.

    Raises ``NotMeasured`` where the device's memory does not suffice for it.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NotMeasured(
            f"{target} is written and whole, but for {what}, for which the device's memory did not suffice "
            f"({first_line(error)}): {remedy}."
        ) from error
