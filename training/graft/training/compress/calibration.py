"""Text that steers the rounding, and what a model's layers see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from graft.adapters.digest import digest_of_bytes
from graft.training.corpus.texts import read_documents
from graft.training.errors import DataError
from graft.training.model.loading import CPU

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


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What a block is given beside the hidden states: masks and positions, which depend on the shape only."""

    others: tuple[Any, ...]
    keywords: dict[str, Any]

    def to(self, device: torch.device) -> _Given:
        others, keywords = tree_map(
            lambda one: one.to(device) if isinstance(one, Tensor) else one, (self.others, self.keywords)
        )
        return _Given(others=others, keywords=keywords)


@torch.inference_mode()
def quantize_blocks(
    model: PreTrainedModel,
    layers: dict[str, nn.Linear],
    batches: list[Tensor],
    quantize: Quantize,
    *,
    device: torch.device = CPU,
) -> None:
    """Block by block, so that each layer is fitted to what the quantized blocks before it really give.

    The model lies on the CPU, and each block on ``device`` while it is calibrated. Batches must have one shape but for
    the last, whose rows may be fewer.
    """
    blocks = _blocks(model)
    is_tuple = _returns_tuple(model, blocks[0], batches[0])
    hidden, given = [], dict[int, list[_Given]]()
    for batch in batches:
        states, given[len(batch)] = _inputs(model, blocks, batch, is_tuple=is_tuple)
        hidden.append(states)
    paths = {layer: path for path, layer in layers.items()}
    for index, block in enumerate(tqdm(blocks, unit="block", desc="calibrating", disable=None)):
        mine = [module for module in block.modules() if module in paths]
        block.to(device)
        runs = [(states, given[len(states)][index]) for states in hidden]
        with _hessians(mine) as hessians:
            for states, one in runs:
                _computed(block, states, one, device)
        for layer in mine:
            quantize(paths[layer], layer, hessians.pop(layer))
        hidden = [_computed(block, states, one, device) for states, one in runs]
        block.to(CPU)


def _blocks(model: PreTrainedModel) -> nn.ModuleList:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda each: sum(parameter.numel() for parameter in each.parameters()))


class _Enough(Exception):
    """Ends a forward pass where its rest is not needed."""


def _returns_tuple(model: PreTrainedModel, block: nn.Module, batch: Tensor) -> bool:
    """Whether the blocks of this architecture give their hidden states as the first of several things."""
    seen: list[bool] = []

    def note(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(isinstance(output, tuple))
        raise _Enough

    hook = block.register_forward_hook(note)
    try:
        model(input_ids=batch[:1, :2], use_cache=False)
    except _Enough:
        pass
    finally:
        hook.remove()
    return seen[0]


def _inputs(
    model: PreTrainedModel, blocks: nn.ModuleList, batch: Tensor, *, is_tuple: bool
) -> tuple[Tensor, list[_Given]]:
    """What goes into the first block, and what each block is given beside it. No block computes."""
    seen: list[tuple[Tensor, _Given]] = []

    def note(hidden_states: Tensor, *others: Any, **keywords: Any) -> Any:
        seen.append((hidden_states, _Given(others=others, keywords=keywords)))
        return (hidden_states,) if is_tuple else hidden_states

    for block in blocks:
        block.forward = note
    try:
        model(input_ids=batch, use_cache=False)
    finally:
        for block in blocks:
            del block.forward
    return seen[0][0], [given for _, given in seen]


def _computed(block: nn.Module, states: Tensor, given: _Given, device: torch.device) -> Tensor:
    """What a block that lies on the device makes of hidden states on the CPU; on the CPU again."""
    there = given.to(device)
    output = block(states.to(device), *there.others, **there.keywords)
    found: Tensor = (output[0] if isinstance(output, tuple) else output).to(CPU)
    return found


@contextmanager
def _hessians(layers: list[nn.Linear]) -> Iterator[dict[nn.Linear, Tensor]]:
    """Sums x xᵀ over everything that goes into each layer meanwhile."""
    sums = {layer: torch.zeros(layer.in_features, layer.in_features, device=layer.weight.device) for layer in layers}

    def add(layer: nn.Linear, args: tuple[Tensor, ...]) -> None:
        inputs = args[0].flatten(0, -2).float()
        sums[layer].addmm_(inputs.T, inputs)

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
