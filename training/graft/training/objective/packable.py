"""Whether a decoder reads packed rows as it reads each alone, and reads only what came before.

Asked of the model itself, by what a few rows of random tokens make of one another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graft.training.batch.packing import Encoded, batch_of_rows
from graft.training.errors import ConfigurationError
from graft.training.objective.masks import MASKED, attention_inputs, decoder_of, kinds_of

_ROUNDING, _ROUNDING_16 = 1e-4, 0.1
"""Part of what a change of its own tokens makes, from which on a change of anything else is more than rounding. The
second is for 16-bit numbers where a row is computed at another place: rounding is 0.006 of a 5M-parameter Llama there,
learned positions that are ignored 0.5 and more."""
_OUTSIDE = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, AssertionError)
"""What classes raise that take no mask of four axes."""


def check_packing(model: nn.Module) -> None:
    """Raises ``ConfigurationError`` for a decoder whose layers reach over the border of two rows in a line, as
    convolutions and recurrent layers do, that counts positions from the line's start, or that takes no mask of ours.
    """
    if (reason := _reason_against_packing(model)) is not None:
        raise ConfigurationError(
            f"a {decoder_of(model).config.model_type} {reason}: rows cannot be packed. Add --no-packing, which takes "
            "the same rows one by one."
        )


def check_causal(model: nn.Module) -> None:
    """Raises ``ConfigurationError`` for a model that sees the token that it is to predict."""
    decoder = decoder_of(model)
    try:
        is_causal = not Probe.of(model).sees_later_tokens()
    except torch.OutOfMemoryError:
        raise
    except _OUTSIDE as error:
        raise ConfigurationError(
            f"a {decoder.config.model_type} cannot be called on a row of tokens: {error}"
        ) from None
    if not is_causal:
        has_switch = getattr(decoder.config, "is_decoder", None) is False
        remedy = ": set is_decoder to true in its config.json" if has_switch else ": take a causal decoder"
        raise ConfigurationError(
            f"a {decoder.config.model_type} reads both sides of a token, which it would be asked to predict{remedy}."
        )


def _reason_against_packing(model: nn.Module) -> str | None:
    decoder = decoder_of(model)
    if others := sorted(kinds_of(decoder) - MASKED):
        return f"has layers ({', '.join(others)}) for which no mask keeps the rows of a line apart"
    if getattr(decoder.config, "attention_type", None) == "block_sparse":
        return "has layers (block_sparse) for which no mask keeps the rows of a line apart"
    try:
        probe = Probe.of(model)
        if probe.leaks():
            return "has layers that carry something of a row into the next one"
        if probe.counts_from_the_line():
            return "counts positions from the start of the line and not of the row"
    except torch.OutOfMemoryError:
        raise
    except _OUTSIDE:
        return "takes no mask that keeps the rows of a line apart"
    return None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A model and rows of random tokens of one length. Lines hold two rows, and two lines are computed at once.

    Another line can change nothing but the rounding, as where experts or 8-bit columns are chosen for all tokens
    together: what is found must be more than that.
    """

    model: nn.Module
    rows: Sequence[Sequence[int]]

    @classmethod
    def of(cls, model: nn.Module, *, length: int = 12) -> Probe:
        highest = min(decoder_of(model).config.get_text_config().vocab_size, 1000)
        drawn = torch.randint(highest, (4, length), generator=torch.Generator().manual_seed(0))
        return cls(model=model, rows=drawn.tolist())

    def leaks(self) -> bool:
        """Whether a row's neighbour changes what is computed for the row."""
        row, one, two, three = self.rows
        (own, beside), (changed, beside_another), (_, above_another) = (
            self._first_line([first, row], [second, row]) for first, second in ((one, two), (three, two), (one, three))
        )
        limit = max(_ROUNDING * _apart(own, changed), 8 * _apart(beside, above_another))
        return _apart(beside, beside_another) > limit

    def counts_from_the_line(self) -> bool:
        """Whether a row is another at the second place of a line than at the first: most of its tokens, as rounding
        alone may send a few to other experts.
        """
        row, one, two, three = self.rows
        own, second = self._first_line([one, row], [two, row])
        first, changed = self._first_line([row, three], [two, row])
        _, above_another = self._first_line([one, row], [three, row])
        is_exact = all(one.dtype.itemsize >= 4 for one in self.model.parameters())
        part = _ROUNDING if is_exact else _ROUNDING_16
        return _mostly_apart(first, second) > max(
            part * _mostly_apart(own, changed), 8 * _mostly_apart(second, above_another)
        )

    def sees_later_tokens(self) -> bool:
        """Whether the row's last token changes what is computed for those before it, without a mask of ours."""
        row, one, two, _ = self.rows
        lines = ([row], [one]), ([[*row[:-1], one[-1]]], [one]), ([row], [two])
        (whole,), (changed,), (above_another,) = (self._first_line(*each) for each in lines)
        noise = _apart(whole[:-1], above_another[:-1])
        return _apart(whole[:-1], changed[:-1]) > max(_ROUNDING * _apart(whole[-1], changed[-1]), 8 * noise)

    @torch.no_grad()
    def _first_line(self, *lines: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        """Logits of each row of the first line."""
        length = len(self.rows[0])
        packed = [[Encoded(input_ids=row, supervised=[True] * length) for row in line] for line in lines]
        batch = batch_of_rows(packed, length=length * len(lines[0]), pad_id=0)
        batch = batch.to(str(next(self.model.parameters()).device))
        with _without_dropout(self.model):
            found = self.model(
                input_ids=batch.input_ids_BL,
                position_ids=batch.position_ids_BL,
                use_cache=False,
                **attention_inputs(self.model, batch),
            )
        logits_LV: Tensor = found.logits[0].double()
        found_rows: Sequence[Tensor] = logits_LV.split(length)
        return found_rows


@contextlib.contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """In evaluation all but quantized layers: bitsandbytes lays NF4 out anew there, for a kernel without a gradient."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = hasattr(module, "quant_state")
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _mostly_apart(one: Tensor, other: Tensor) -> float:
    """The median of the tokens' largest differences. Shapes: (L, V)."""
    return float((one - other).abs().amax(-1).median())
