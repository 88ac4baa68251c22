"""The base's own weights: all of them (full fine-tuning, and going on with pretraining), the last blocks or what a
regular expression names, or the biases alone (BitFit: Ben Zaken et al. 2022, arXiv:2106.10199). What comes out is
another base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable, block_of
from graft.training.adapt.method import Learning, Method, Route, Way
from graft.training.adapt.patterns import WrongPattern, matched
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.job.export import make_readable, write_models
from graft.training.model.loading import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class OwnWeights:
    """See ``Method``."""

    name: str
    uses: frozenset[str]
    chosen: Callable[[Adaptable], Iterable[str]]
    """Names of the parameters that learn. Raises ``ConfigurationError``."""
    packs: bool = True
    num_ahead: int = 0
    shards: bool = False
    shards_optimizer: bool = True

    def check(self, base: Adaptable, form: ServingForm) -> None:
        if form is not ServingForm.BF16:
            raise ConfigurationError(
                f"{self.name} moves the base's own weights, which as {form} are codes that cannot move: take the plain "
                "base, without load_in_4bit and load_in_8bit, or lora, which leaves them as they are."
            )
        self.chosen(base)

    def way(self, base: Adaptable) -> Way:
        return Way(route=Route.BASE)

    def fixed(self, num_steps: int) -> Mapping[str, str]:
        return {}

    def inject(self, model: PreTrainedModel, base: Adaptable, *, seed: int) -> nn.Module:
        learns = frozenset(self.chosen(base))
        for name, one in model.named_parameters():
            one.requires_grad_(name in learns)
        return model

    def learning(self, model: nn.Module, num_steps: int) -> Learning:
        return Learning()

    def save(self, model: nn.Module, whole: Mapping[str, Tensor], folder: Path) -> None:
        """A base's folder: what did not learn is as it was."""
        assert isinstance(model, PreTrainedModel)
        write_models({"": model}, load_tokenizer(Path(model.name_or_path)), folder)
        make_readable(folder)


def bitfit(settings: AdaptSettings) -> Method:
    def chosen(base: Adaptable) -> list[str]:
        biases = [name for name in base.parameters if name.rpartition(".")[2] == "bias"]
        if not biases:
            raise ConfigurationError(
                f"{base.name}, a {base.model_type}, has no biases, which are all that bitfit trains: take ia3, whose "
                "vectors scale where biases shift, or a base with biases, such as pythia, opt or qwen2."
            )
        return biases

    return OwnWeights(name="bitfit", uses=frozenset(), chosen=chosen)


def full(settings: AdaptSettings) -> Method:
    """All of the base, or what the settings leave unfrozen of it."""

    def chosen(base: Adaptable) -> list[str]:
        last, pattern = settings.trainable_layers, settings.trainable_parameters
        if last is not None and pattern is not None:
            raise ConfigurationError("trainable_layers and trainable_parameters both say what learns: give one.")
        if last is not None:
            return _of_last_blocks(base, last)
        return list(base.parameters) if pattern is None else _matched(base, pattern)

    return OwnWeights(name="full", uses=frozenset(("trainable_layers", "trainable_parameters")), chosen=chosen)


def _of_last_blocks(base: Adaptable, num: int) -> list[str]:
    if num > base.num_blocks:
        raise ConfigurationError(
            f"setting 'trainable_layers' has the value {num}, and {base.name} has {base.num_blocks} blocks."
        )
    first = base.num_blocks - num
    return [name for name in base.parameters if (number := block_of(name)) is not None and number >= first]


def _matched(base: Adaptable, pattern: str) -> list[str]:
    setting = f"setting 'trainable_parameters' has the value {pattern!r}"
    try:
        chosen = matched(pattern, base.parameters)
    except WrongPattern as error:
        raise ConfigurationError(f"{setting}, which {error}.") from None
    found = [name for name in base.parameters if name in chosen]
    if not found:
        raise ConfigurationError(
            f"{setting}, which matches the whole name of no parameter; one of {base.name} is {base.parameters[0]}."
        )
    return found
