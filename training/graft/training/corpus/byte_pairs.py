"""A tokenizer of the text's own: byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909; GPT-2: Radford et al. 2019).

Byte-level: any text can be encoded, and decoding gives it back.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from graft.training.corpus.chat_template import CHAT_TEMPLATE, IM_END, IM_START
from graft.training.errors import ConfigurationError

BEGIN, PAD, END, MASK = "<s>", "<pad>", "</s>", "<mask>"
SPECIAL = (BEGIN, PAD, END, MASK, IM_START, IM_END)
SENTINEL = "<extra_id_{}>"
"""They stand for what span corruption takes out (T5)."""


def train_tokenizer(
    documents: Iterable[str], *, vocab_size: int, context_tokens: int, num_sentinels: int = 0
) -> PreTrainedTokenizerFast:
    """Learns ``vocab_size`` tokens from the documents; the same documents give the same tokenizer. So many
    sentinels are among them.

    Raises ``ConfigurationError`` where bytes and special tokens alone are more.
    """
    special = [*SPECIAL, *map(SENTINEL.format, range(num_sentinels))]
    least = 256 + len(special)
    if vocab_size < least:
        raise ConfigurationError(
            f"vocab_size is {vocab_size}; bytes and special tokens alone are {least}: raise it to that or more."
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(documents, trainer=trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BEGIN,
        cls_token=BEGIN,
        eos_token=END,
        sep_token=END,
        pad_token=PAD,
        mask_token=MASK,
        extra_special_tokens=[IM_START, IM_END, *special[len(SPECIAL) :]],
        clean_up_tokenization_spaces=False,
        model_max_length=context_tokens,
        padding_side="right",
    )
    tokenizer.chat_template = CHAT_TEMPLATE  # so that adapters can be trained on what this text makes
    return tokenizer
