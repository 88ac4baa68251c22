"""The character-level tokenizer of the rootstock bases.

Every printable ASCII character and the newline are one token each, so digits come one by one; any other character
becomes its UTF-8 bytes (``<0x00>`` … ``<0xFF>``). No normaliser and no merges: decoding gives back exactly what was
encoded.

No token is ever added on its own, neither in training nor in serving: a document ends in ``<|eos|>`` and begins with
its first character.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from graft.training.corpus.chat_template import CHAT_TEMPLATE, IM_END, IM_START

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
SPECIAL_TOKENS = (PAD, BOS, EOS, IM_START, IM_END)
CHARACTERS = ("\n", *(chr(code) for code in range(0x20, 0x7F)))
VOCABULARY_SIZE = 384
"""A multiple of 64, so that shards and kernels divide it; the rest is reserved tokens."""


def build_tokenizer(context_tokens: int) -> PreTrainedTokenizerFast:
    """Returns the tokenizer, always the same one, as a Hugging Face fast tokenizer.

    Args:
        context_tokens: the model's context length, written into the tokenizer's configuration.
    """
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    ordinary = [*SPECIAL_TOKENS, *byte_tokens, *CHARACTERS]
    reserved = [f"<|reserved_{index}|>" for index in range(VOCABULARY_SIZE - len(ordinary))]
    vocabulary = {token: index for index, token in enumerate([*ordinary, *reserved])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in reserved])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[IM_START, IM_END],
        clean_up_tokenization_spaces=False,
        model_max_length=context_tokens,
        padding_side="right",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
