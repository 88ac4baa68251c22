"""OFT: what a layer reads is turned, block by block, so that angles between its weights stay (Qiu et al. 2023,
arXiv:2306.07280; by Cayley's transform of what is learned, as a Neumann series: OFTv2, arXiv:2506.19847).
"""

from __future__ import annotations

from peft import OFTConfig

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method, Route, Way
from graft.training.adapt.methods.lora import LAYERS
from graft.training.adapt.methods.through_peft import PeftMethod
from graft.training.adapt.settings import AdaptSettings
from graft.training.adapt.targets import Targets
from graft.training.errors import ConfigurationError


def oft(settings: AdaptSettings) -> Method:
    def configuration(base: Adaptable) -> OFTConfig:
        targets, size = Targets.of(base, settings), settings.oft_block_size
        if odd := [path for path in targets.paths if base.layers[path][1] % size]:
            raise ConfigurationError(
                f"setting 'oft_block_size' has the value {size}, which does not divide the {base.layers[odd[0]][1]} "
                f"inputs of {odd[0]} and {len(odd) - 1} more: choose one that does, such as {_largest(base, targets)}."
            )
        return OFTConfig(oft_block_size=size, r=0, module_dropout=settings.lora_dropout, **targets.options())

    return PeftMethod(
        name="oft",
        uses=LAYERS | {"oft_block_size", "lora_dropout"},
        configuration=configuration,
        way=lambda base: Way(route=Route.MERGE),
    )


def _largest(base: Adaptable, targets: Targets) -> int:
    """Up to 32, that divides all inputs."""
    inputs = [base.layers[path][1] for path in targets.paths]
    return next(size for size in range(32, 0, -1) if not any(one % size for one in inputs))
