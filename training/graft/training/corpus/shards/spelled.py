"""Which tokenizer spelled a text."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from graft.adapters.digest import digest_of_json
from graft.adapters.text.spelling import Spelling

_PROBE = (
    "The 2,048 quick brown foxes didn't jump; HTTP/1.1 said: «naïve café»…\n"
    "\n\tdef f(x_1):\r\n        return x_1**2  # ß\n"
    "第一句话。今天下雨！ Привет мир — مرحبا 🙂 e\u0301 ﬁ Ⅷ ½\u00a0\u200b.  \n Ünder_score camelCase 1234567890"
)
"""What normalizers, pre-tokenizers and merges treat differently."""


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of the vocabulary, and of how a sample is spelled: the same for a tokenizer that was saved and loaded, whatever
    the library's version writes into its files.
    """
    return digest_of_json([tokenizer.get_vocab(), Spelling(tokenizer).text(_PROBE)])
