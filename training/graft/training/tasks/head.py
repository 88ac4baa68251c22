"""What a base gets for a task: a class of models, and what its configuration says of the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from transformers import PretrainedConfig

from graft.training.errors import ConfigurationError
from graft.training.model.family import facts_of


@dataclass(frozen=True, kw_only=True)
class Head:
    """``auto`` is one of Hugging Face's ``AutoModelFor…``; ``options`` are set in the configuration."""

    auto: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def labelled(cls, auto: Any, names: Sequence[str], **options: Any) -> Self:
        by_number = dict(enumerate(names))
        by_name = {name: number for number, name in by_number.items()}
        return cls(auto=auto, options={"id2label": by_number, "label2id": by_name, **options})

    @property
    def num_outputs(self) -> int | None:
        """None where the class of models decides it."""
        names = self.options.get("id2label")
        return self.options.get("num_labels") if names is None else len(names)

    def check_fit(self, config: PretrainedConfig, name: str) -> None:
        """Raises ``ConfigurationError`` where a base of this name has such a head already, of another size."""
        if self.num_outputs not in (None, config.num_labels) and has_head(self.auto, config):
            raise ConfigurationError(
                f"{name} has a head for {config.num_labels} labels, and the data ask for one of {self.num_outputs}: "
                "take a base without a head."
            )

    def model_class(self, config: PretrainedConfig) -> Any:
        return class_of(self.auto, config)


def class_of(auto: Any, config: PretrainedConfig) -> Any:
    """Raises ``ConfigurationError`` where the architecture has no such head."""
    found = auto._model_mapping.get(type(config), None)
    if found is None or facts_of(config).name == "xlnet":  # whose rows are filled up at their beginning
        raise ConfigurationError(
            f"a {config.model_type} has no head for this task: take another base, or another --task."
        )
    return found[0] if isinstance(found, tuple | list) else found


def has_head(auto: Any, config: PretrainedConfig) -> bool:
    """Whether a folder's weights are of such a class already, head included."""
    names = getattr(config, "architectures", None) or []
    return names[:1] == [class_of(auto, config).__name__]
