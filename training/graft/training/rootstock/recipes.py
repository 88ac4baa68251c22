"""The recipes known by name."""

from collections.abc import Callable

from graft.training.errors import ConfigurationError
from graft.training.rootstock.recipe import Pretraining, rootstock_5m

PRETRAINING: dict[str, Callable[..., Pretraining]] = {"rootstock-5m": rootstock_5m}


def pretraining(name: str, *, num_steps: int | None, seed: int) -> Pretraining:
    """Returns a recipe, with fewer or more steps where asked.

    Raises:
        ConfigurationError: there is no recipe of this name.
    """
    if name not in PRETRAINING:
        raise ConfigurationError(f"unknown recipe {name!r}; the recipes are {', '.join(sorted(PRETRAINING))}.")
    settings = {} if num_steps is None else {"num_steps": num_steps}
    return PRETRAINING[name](seed=seed, **settings)
