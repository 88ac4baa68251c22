"""What stands around the texts of a row: the tokenizer's own, or where it has none what encoders are trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from graft.adapters.folder.head import BETWEEN_TEXTS
from graft.adapters.text.problems import BadLine
from graft.adapters.text.spelling import Spelling, Unspellable
from graft.training.errors import ConfigurationError
from graft.training.model.configuration import first_id
from graft.training.model.family import facts_of

DELIMITERS = ("[START]", "[DELIMITER]", "[EXTRACT]")
Ids = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Framed:
    """A row's tokens, which of two texts each belongs to, and where the second text's own begin."""

    ids: list[int]
    types: list[int]
    second: int


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Texts become rows as ``tokenizer(text)`` and ``tokenizer(text, text_pair)`` make them, but what a text says is
    never a control token. A decoder reads a pair as one text, with ``joint`` between, as a server is sent it.
    """

    spelling: Spelling
    pad_id: int
    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    after_single: tuple[int, ...]
    has_types: bool = False
    """The model is told which of the two texts a token belongs to."""
    second_type: int = 0
    """What it is told of the second one's."""
    joint: str | None = None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> Self:
        """Raises ``ConfigurationError`` where the tokenizer has no padding token, or lacks what must stand around."""
        bare_a, bare_b = (_ids(tokenizer, one, add_special_tokens=False) for one in "ab")
        single, pair = _ids(tokenizer, "a"), _ids(tokenizer, "a", "b")
        before, rest = _parted(single, bare_a)
        begun, remains = _parted(pair, bare_a)
        between, after = _parted(remains, bare_b)
        spelling, is_decoder = Spelling(tokenizer), facts_of(config).kind == "decoder"
        made = cls(
            spelling=spelling,
            pad_id=_pad_id(tokenizer, rest),
            before=before if is_decoder else begun,
            between=between,
            after=after,
            after_single=tuple(rest),
            has_types=getattr(config, "type_vocab_size", 0) > 1,
            second_type=tokenizer("a", "b", return_token_type_ids=True)["token_type_ids"][
                len(begun) + len(bare_a) + len(between)
            ],
            joint=BETWEEN_TEXTS if is_decoder else None,
        )
        return made if is_decoder or [*begun, *between, *after] else made._trained_with(tokenizer, config)

    def _trained_with(self, tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> Self:
        """``[CLS] text [SEP] pair [SEP]``, without the first token where the decoder starts with padding (T5)."""
        begin, end = (
            first_id(tokenizer.cls_token_id, tokenizer.bos_token_id),
            first_id(tokenizer.sep_token_id, tokenizer.eos_token_id),
        )
        needs_begin = not facts_of(config).starts_with_padding
        if end is None or (needs_begin and begin is None):
            raise ConfigurationError(
                f"the tokenizer in {tokenizer.name_or_path} has no token that a row begins or ends with: set its "
                "cls_token and sep_token, or bos_token and eos_token."
            )
        before = (begin,) if needs_begin and begin is not None else ()
        second = int(self.has_types)
        return replace(self, before=before, between=(end,), after=(end,), after_single=(end,), second_type=second)

    def delimited(self, tokenizer: PreTrainedTokenizerFast) -> Self:
        """``[START] text [DELIMITER] pair [EXTRACT]`` (Radford et al. 2018, figure 1): tokens of their own, which are
        added to the tokenizer.
        """
        tokenizer.add_special_tokens(
            {"additional_special_tokens": [AddedToken(one, special=True, normalized=False) for one in DELIMITERS]}
        )
        start, delimiter, extract = ((one,) for one in tokenizer.convert_tokens_to_ids(list(DELIMITERS)))
        options: dict[str, Any] = {
            "before": start,
            "between": delimiter,
            "after": extract,
            "after_single": extract,
            "second_type": 0,
        }
        return replace(self, spelling=Spelling(tokenizer), joint=None, **options)

    def write_into(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Whoever loads the tokenizer gets the same rows from ``tokenizer(text, text_pair)``; of a decoder that reads
        a pair as one text it stays as it is.
        """
        if self.joint is not None:
            return
        if self.has_types:
            names = ["input_ids", "token_type_ids", "attention_mask"]
            tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names

        def spelled(ids: Ids, kind: int) -> list[str]:
            return [f"{token}:{kind}" for token in tokenizer.convert_ids_to_tokens(list(ids))]

        second = self.second_type
        special = {id for part in (self.before, self.between, self.after, self.after_single) for id in part}
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=[*spelled(self.before, 0), "$A:0", *spelled(self.after_single, 0)],
            pair=[
                *spelled(self.before, 0), "$A:0", *spelled(self.between, 0), f"$B:{second}",
                *spelled(self.after, second),
            ],
            special_tokens=[(tokenizer.convert_ids_to_tokens(id), id) for id in sorted(special)],
        )  # fmt: skip

    def text(self, text: str) -> list[int]:
        """Ids of a text alone. Raises ``BadLine``."""
        try:
            return self.spelling.text(text)
        except Unspellable as problem:
            raise BadLine(f"{problem}.") from None

    def num_added(self, *, is_pair: bool) -> int:
        """Tokens that stand around the texts of a row."""
        if is_pair and self.joint is None:
            return len(self.before) + len(self.between) + len(self.after)
        return len(self.before) + len(self.after_single)

    def apart(self) -> Self:
        """For texts that must stay apart in any case: a decoder reads one behind the other."""
        return replace(self, joint=None, between=self.between or tuple(self.spelling.text(self.joint or "")))

    def single(self, ids: Ids) -> Framed:
        row = [*self.before, *ids, *self.after_single]
        return Framed(ids=row, types=[0] * len(row), second=len(self.before))

    def pair(self, first: Ids, second: Ids) -> Framed:
        """Of two texts that stay apart."""
        begin = [*self.before, *first, *self.between]
        end = [*second, *self.after]
        types = [0] * len(begin) + [self.second_type] * len(end)
        return Framed(ids=begin + end, types=types, second=len(begin))


def _ids(tokenizer: PreTrainedTokenizerFast, *texts: str, add_special_tokens: bool = True) -> list[int]:
    return list(tokenizer(*texts, add_special_tokens=add_special_tokens, verbose=False)["input_ids"])


def _parted(ids: Ids, inner: Ids) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What stands before and after the first place where some ids stand together."""
    num = len(inner)
    at = next((at for at in range(len(ids) - num + 1) if list(ids[at : at + num]) == list(inner)), None)
    if at is None:
        raise ConfigurationError("the tokenizer spells a text otherwise beside what it puts around it: take its own.")
    return tuple(ids[:at]), tuple(ids[at + num :])


def _pad_id(tokenizer: PreTrainedTokenizerFast, after: Ids) -> int:
    """One that no row ends in: a decoder's head is asked at the last token that is no padding."""
    names = ("pad_token_id", "eos_token_id", "unk_token_id")
    found = next(
        (one for name in names if (one := getattr(tokenizer, name, None)) is not None and one not in after), None
    )
    if found is None:
        raise ConfigurationError(
            f"the tokenizer in {tokenizer.name_or_path} has no token to fill rows with that does not also end "
            "them: set its pad_token."
        )
    return int(found)
