"""Writing finished folders: a base in Hugging Face format, and anything else that must appear whole."""

import os
from collections.abc import Callable
from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from graft.training.runtime.disk import GO_ON, remove, written


def write_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, *, card: str) -> None:
    """Writes weights, configuration, tokenizer, chat template and model card into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    make_readable(folder)


def make_readable(folder: Path) -> None:
    """Lets everybody read a folder's files; safetensors writes its own for the owner alone."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)


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
