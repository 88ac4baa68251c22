"""Text that steers the rounding, and what a model's layers see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from graft.adapters.digest import digest_of_bytes
from graft.training.corpus.texts import read_documents
from graft.training.errors import DataError

NUM_TOKENS = 32_768
_LENGTH = 512
_ROWS_PER_BATCH = 8

Quantize = Callable[[str, nn.Linear, Tensor], None]
"""Gets a layer's path, the layer and its Hessian, and changes the layer's weight."""


@dataclass(frozen=True, kw_only=True)
class CalibrationText:
    """Documents, and a digest of their source."""

    documents: tuple[str, ...]
    digest: str

    @classmethod
    def from_file(cls, path: Path) -> CalibrationText:
        """The documents of a file of text, as pretraining reads them.

        Raises:
            DataError: another kind of file, one that cannot be read, a line without ``text``, or nothing to read.
        """
        documents = tuple(read_documents(path))
        return cls(documents=documents, digest=digest_of_bytes(path.read_bytes()))

    @classmethod
    def of(cls, texts: Iterable[str]) -> CalibrationText:
        """Documents that were made."""
        documents = tuple(texts)
        return cls(documents=documents, digest=digest_of_bytes("\0".join(documents).encode()))

    def batches(self, tokenizer: PreTrainedTokenizerFast, *, num_tokens: int, context: int) -> list[Tensor]:
        """Batches (rows, length) of the documents one after another, each followed by its end token.

        Raises:
            DataError: the text is shorter than one row.
        """
        length = min(context, _LENGTH)
        ids: list[int] = []
        for document in self.documents:
            ids += [*tokenizer(document, verbose=False)["input_ids"], tokenizer.eos_token_id]
            if len(ids) >= num_tokens:
                break
        rows = min(len(ids), max(num_tokens, length)) // length
        if not rows:
            raise DataError(f"the calibration text has {len(ids)} tokens; at least {length} are needed.")
        return list(torch.tensor(ids[: rows * length]).view(rows, length).split(_ROWS_PER_BATCH))


class _Enough(Exception):
    """Ends a forward pass where its rest is not needed."""


@torch.inference_mode()
def quantize_blocks(
    model: PreTrainedModel, layers: dict[str, nn.Linear], batches: list[Tensor], quantize: Quantize
) -> None:
    """Block by block, so that each layer is fitted to what the quantized blocks before it really give.

    Batches must have one shape but for the last, whose rows may be fewer.
    """
    blocks = _blocks(model)
    by_rows = {
        rows: _arguments(model, blocks, batch) for rows, batch in {len(batch): batch for batch in batches}.items()
    }
    hidden = [_first_input(model, blocks[0], batch) for batch in batches]
    paths = {layer: path for path, layer in layers.items()}
    for index, block in enumerate(tqdm(blocks, unit="block", desc="calibrating", disable=None)):
        mine = [module for module in block.modules() if module in paths]
        runs = [(states, by_rows[len(states)][index]) for states in hidden]
        with _hessians(mine) as hessians:
            for states, keywords in runs:
                block(states, **keywords)
        for layer in mine:
            quantize(paths[layer], layer, hessians[layer])
        hidden = [_output(block(states, **keywords)) for states, keywords in runs]


def _blocks(model: PreTrainedModel) -> nn.ModuleList:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda each: sum(parameter.numel() for parameter in each.parameters()))


def _arguments(model: PreTrainedModel, blocks: nn.ModuleList, batch: Tensor) -> list[dict[str, Any]]:
    """What each block is given beside the hidden states: masks and positions, which depend on the shape only."""
    seen: list[dict[str, Any]] = []

    def note(block: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.append({key: value for key, value in keywords.items() if key != "hidden_states"})

    hooks = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    model(input_ids=batch, use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def _first_input(model: PreTrainedModel, block: nn.Module, batch: Tensor) -> Tensor:
    seen: list[Tensor] = []

    def catch(block: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.append(args[0] if args else keywords["hidden_states"])
        raise _Enough

    hook = block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        model(input_ids=batch, use_cache=False)
    except _Enough:
        pass
    finally:
        hook.remove()
    return seen[0]


def _output(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def _hessians(layers: list[nn.Linear]) -> Iterator[dict[nn.Linear, Tensor]]:
    """Sums x xᵀ over everything that goes into each layer meanwhile."""
    sums = {layer: torch.zeros(layer.in_features, layer.in_features) for layer in layers}

    def add(layer: nn.Linear, args: tuple[Tensor, ...]) -> None:
        inputs = args[0].flatten(0, -2).float()
        sums[layer].addmm_(inputs.T, inputs)

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
