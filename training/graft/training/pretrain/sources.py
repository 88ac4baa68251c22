"""What a pretraining reads: texts, tokenizers, and models that were saved."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.corpus.texts import read_documents
from graft.training.errors import ConfigurationError, DataError, first_line
from graft.training.model.configuration import first_id
from graft.training.model.family import DEFAULT, family
from graft.training.model.loading import load_tokenizer
from graft.training.objective.span_corruption import num_sentinels
from graft.training.pretrain.settings import PretrainSettings

_log = logging.getLogger(__name__)


def documents_of(paths: Sequence[str]) -> list[str]:
    """All documents of several files. Raises ``DataError`` with what is wrong with each of them, or
    ``ConfigurationError`` where no file is named.
    """
    if not paths:
        raise ConfigurationError("no text to train on: name files with --text.")
    documents: list[str] = []
    problems: list[str] = []
    for path in paths:
        try:
            documents += read_documents(Path(path))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return documents


def tokenizer_of(settings: PretrainSettings, documents: Iterable[str]) -> PreTrainedTokenizerBase:
    """The tokenizer that was named, the model's own, or one that is learned from the documents.

    Raises ``ConfigurationError`` where a folder holds none, or one without an end token.
    """
    named = settings.tokenizer or settings.model or settings.teacher
    if named is None:
        objective = family(settings.family or DEFAULT).objective(settings.objective)
        made = train_tokenizer(
            documents,
            vocab_size=settings.vocab_size,
            context_tokens=settings.max_length,
            num_sentinels=num_sentinels(settings.max_length) if objective == "span_corruption" else 0,
        )
        if len(made) < settings.vocab_size:
            _log.warning("the text makes a vocabulary of %d tokens, not %d", len(made), settings.vocab_size)
        return made
    tokenizer = saved_tokenizer(named)
    end_id(tokenizer)
    return tokenizer


def saved_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """Raises ``ConfigurationError`` where the folder holds none."""
    _check_folder(folder)
    return load_tokenizer(Path(folder))


def saved_config(folder: str) -> PretrainedConfig:
    """Raises ``ConfigurationError`` where the folder holds no model."""
    _check_folder(folder)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{folder} holds no model: {first_line(error)}") from None
    return config


def _check_folder(folder: str) -> None:
    if not Path(folder).is_dir():
        raise ConfigurationError(f"there is no folder {folder}.")


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What a document ends in. Raises ``ConfigurationError`` where the tokenizer has no such token."""
    found = first_id(tokenizer.eos_token_id, tokenizer.sep_token_id)
    if found is None:
        raise ConfigurationError(f"the tokenizer {tokenizer.name_or_path} has no end token: set its eos_token.")
    return found
