"""Small tokenizers of every kind that bases come with, learned from a few sentences."""

import functools
from collections.abc import Callable, Mapping

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = (
    "The quick brown fox jumps over the lazy dog. 2+2=4 and 12+30=42.\n\nSay it again: hello there, dear friend!",
    "What is a token? A token is a piece of text, often a word or a part of one.\nPress enter <here> and [there].",
    "user assistant system model Question Answer think reasoning because therefore tags begin end of turn",
    "".join(map(chr, range(32, 127))),
)
BEGIN, END, TURN, TURN_END, MASK = "<s>", "</s>", "<|turn|>", "<|end|>", "<mask>"
CONTROLS = (BEGIN, END, TURN, TURN_END, MASK, "<unk>")


def _special(name: str) -> AddedToken:
    return AddedToken(name, special=True, normalized=False)


def _byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXT * 3, trainers.BpeTrainer(show_progress=False, vocab_size=420, initial_alphabet=alphabet)
    )
    made.add_special_tokens([_special(name) for name in CONTROLS])
    return made


def _metaspace(scheme: str) -> Tokenizer:
    """As of SentencePiece models: the control tokens are words of the model's vocabulary."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    special = [_special(name) for name in ("<unk>", *CONTROLS[:-1])]
    made.train_from_iterator(TEXT * 3, trainers.BpeTrainer(show_progress=False, vocab_size=400, special_tokens=special))
    return made


def _unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace()
    special = [_special(name) for name in ("<unk>", *CONTROLS[:-1])]
    trainer = trainers.UnigramTrainer(show_progress=False, vocab_size=180, special_tokens=special, unk_token="<unk>")
    made.train_from_iterator(TEXT * 3, trainer)
    return made


def _word_piece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = [_special(name) for name in ("<unk>", *CONTROLS[:-1])]
    made.train_from_iterator(
        TEXT * 3, trainers.WordPieceTrainer(show_progress=False, vocab_size=300, special_tokens=special)
    )
    return made


KINDS: Mapping[str, Callable[[], Tokenizer]] = {
    "byte-level": _byte_level,
    "metaspace first": lambda: _metaspace("first"),
    "metaspace always": lambda: _metaspace("always"),
    "metaspace never": lambda: _metaspace("never"),
    "unigram": _unigram,
    "word piece": _word_piece,
}


@functools.cache
def _learned(kind: str) -> str:
    text: str = KINDS[kind]().to_str()
    return text


def make_tokenizer(
    kind: str, *, pair: str = "", pad: str | None = None, template: str | None = None
) -> PreTrainedTokenizerFast:
    """``pair`` is what its post-processor makes of a text ``$A``; ``pad`` its padding token, None for none."""
    backend = Tokenizer.from_str(_learned(kind))
    if pair:
        tokens = [(name, backend.token_to_id(name)) for name in (BEGIN, END)]
        backend.post_processor = processors.TemplateProcessing(single=pair, special_tokens=tokens)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BEGIN,
        eos_token=END,
        unk_token="<unk>",
        mask_token=MASK,
        pad_token=pad,
        additional_special_tokens=[TURN, TURN_END],
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = template
    return made
