"""Embeddings of some tokens alone, such as of new words of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peft import PeftModel, TrainableTokensConfig
from torch import Tensor

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method, Route, Way
from graft.training.adapt.methods.through_peft import PeftMethod, packed
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.model.loading import load_tokenizer


def trainable_tokens(settings: AdaptSettings) -> Method:
    def configuration(base: Adaptable) -> TrainableTokensConfig:
        return TrainableTokensConfig(
            token_indices=token_ids(base, settings.trainable_tokens or ()), target_modules=[base.embeddings]
        )

    return PeftMethod(
        name="trainable_tokens",
        uses=frozenset(("trainable_tokens",)),
        configuration=configuration,
        way=lambda base: Way(route=Route.MERGE, why="slots of adapters hold linear layers only"),
        pack=_by_all_names,
    )


def _by_all_names(model: PeftModel, whole: Mapping[str, Tensor]) -> dict[str, bytes]:
    """As peft writes them: where the head is the embeddings, under the name of each."""
    names: dict[int, list[str]] = {}
    for name, one in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(one), []).append(name)
    tensors = {name: whole[some[0]].clone() for some in names.values() if some[0] in whole for name in some}
    return packed(model, tensors)


def token_ids(base: Adaptable, wanted: Sequence[str]) -> list[int]:
    """Of tokens that are named by their text or by their number. Raises ``ConfigurationError`` with all wrong ones."""
    if not wanted:
        raise ConfigurationError("trainable_tokens learns nothing: name tokens, or their numbers, in trainable_tokens.")
    tokenizer = load_tokenizer(base.path)
    found, reasons = set[int](), []
    for one in wanted:
        ids = [int(one)] if one.isdecimal() else tokenizer.encode(one, add_special_tokens=False)
        if len(ids) != 1:
            reasons.append(f"{one!r} is {len(ids)} tokens")
        elif ids[0] >= base.num_embeddings:
            reasons.append(f"{one} is no token: the last is {base.num_embeddings - 1}")
        found.update(ids)
    if reasons:
        raise ConfigurationError(f"setting 'trainable_tokens' names what is not one token: {'; '.join(reasons)}.")
    return sorted(found)
