"""What a pretraining reads: texts, tokenizers, and models that were saved."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.corpus.texts import read_documents
from graft.training.errors import ConfigurationError, DataError, first_line
from graft.training.model.configuration import first_id
from graft.training.model.family import DEFAULT, family, family_of
from graft.training.model.loading import load_tokenizer
from graft.training.objective.span_corruption import num_sentinels
from graft.training.pretrain.settings import PretrainSettings

_log = logging.getLogger(__name__)

_TOKENIZERS = ("tokenizer*", "vocab*", "*.model")
"""Files of which a folder with a tokenizer has one, in any of the hub's forms."""


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


def planned_tokenizer(settings: PretrainSettings) -> PreTrainedTokenizerBase:
    """For a plan without a text: one that was named or, of a model that has none yet, a stand-in as large as its
    vocabulary, which 'causal' asks nothing of. Raises ``ConfigurationError`` where there is neither.
    """
    folder = settings.tokenizer or settings.model or settings.teacher
    if folder is None:
        raise ConfigurationError("no text to train on: name files with --text; for a plan --tokenizer or --model do.")
    if folder != settings.model or _holds_tokenizer(Path(folder)):
        return tokenizer_of(settings, ())
    config = saved_config(folder)
    objective = family_of(config).objective(settings.objective)
    if objective != "causal":
        raise ConfigurationError(
            f"{folder} holds no tokenizer, and {objective!r} learns from special tokens: name one with --tokenizer."
        )
    words = {str(number): number for number in range(config.vocab_size)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")), eos_token="0")


def _holds_tokenizer(folder: Path) -> bool:
    return any(found for pattern in _TOKENIZERS for found in folder.glob(pattern))


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
