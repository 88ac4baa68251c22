"""Writing a base as a Hugging Face folder."""

import os
import shutil
from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast


def export_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, target: Path, *, card: str) -> None:
    """Writes weights, configuration, tokenizer, chat template and model card, then puts the folder in place of ``target``.

    A reader sees the old folder or the new one, never half of either.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    (draft / "README.md").write_text(card, encoding="utf-8")
    _replace(target, draft)


def _replace(target: Path, draft: Path) -> None:
    old = target.with_name(f".{target.name}.old.{os.getpid()}")
    if target.exists():
        target.rename(old)
    draft.rename(target)
    shutil.rmtree(old, ignore_errors=True)
