"""A second device on a machine that has one: tensors that compute on the CPU, say that they lie elsewhere, and mix with
no tensor of the CPU's, as a GPU's do not. Torch's `meta` lends its name, the one device that every build knows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

SECOND = torch.device("meta")
_COPIES = frozenset(("aten::copy_", "aten::_to_copy", "aten::to"))


class SecondDeviceTensor(Tensor):
    """Holds a CPU tensor in `inner`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> SecondDeviceTensor:
        made: SecondDeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=SECOND,
        )
        made.inner = inner
        return made

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return f"{self.inner!r} on the second device"

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(function, args, dict(kwargs or {}))


class _Making(TorchDispatchMode):
    """Tensors that are made on the second device, or copied to it."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(function, args, dict(kwargs or {}))


class _FromNumbers(TorchFunctionMode):
    """`torch.tensor` brings its numbers past the dispatcher."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.pop("device", None) if function is torch.tensor else None
        made = function(*args, **kwargs)
        return made if device is None else made.to(device)


@contextlib.contextmanager
def second_device() -> Iterator[torch.device]:
    """Where `.to(device)` brings tensors and models to. Attention has no fused kernel there, optimizers have theirs."""
    fused = mock.patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["cpu", SECOND.type])
    with _Making(), _FromNumbers(), sdpa_kernel(SDPBackend.MATH), fused:
        yield SECOND


def _computed(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    values = tree_leaves((args, kwargs))
    tensors = [one for one in values if isinstance(one, Tensor)]
    theirs = [one for one in tensors if isinstance(one, SecondDeviceTensor)]
    asked = next((one for one in values if isinstance(one, torch.device)), None)
    if not theirs and asked != SECOND:
        return function(*args, **kwargs)
    ours = [one for one in tensors if not isinstance(one, SecondDeviceTensor) and one.ndim > 0]
    if theirs and function._schema.name == "aten::_has_compatible_shallow_copy_type":
        return False
    if theirs and ours and function._schema.name not in _COPIES:
        raise RuntimeError(
            f"{function}: expected all tensors to be on the same device, but found at least two devices: "
            f"{SECOND} and {ours[0].device}"
        )
    found = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if asked is not None and asked != SECOND:
        return found
    if function._schema.is_mutable:
        return _changed(args, kwargs, found)
    return tree_map(lambda one: SecondDeviceTensor(one) if isinstance(one, Tensor) else one, found)


def _changed(args: Sequence[Any], kwargs: Mapping[str, Any], found: Any) -> Any:
    """What an operation in place returns: the very tensors that it was given."""
    given = {id(one.inner): one for one in tree_leaves((args, kwargs)) if isinstance(one, SecondDeviceTensor)}
    return tree_map(lambda one: given.get(id(one), one) if isinstance(one, Tensor) else one, found)


def _inner(value: Any) -> Any:
    if isinstance(value, torch.device) and value == SECOND:
        return torch.device("cpu")
    return value.inner if isinstance(value, SecondDeviceTensor) else value
