"""A model before its numbers: parameters without memory, of which each process asks for its parts.

Random weights are those that one process would draw from the same seed: what is drawn while the model is made is drawn
and dropped, with the generator's state before it, from which one parameter after the other can be drawn again. Saved
weights are read from their files, where no more than the part is read. No more than one parameter is ever whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from graft.training.model.casting import cast_buffers

_KEPT = 1 << 16
"""Elements; what a parameter holds before it is filled is kept of so small ones: norms and biases of ones or zeros."""

Part = tuple[slice, ...]
ModelT = TypeVar("ModelT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Deferred:
    """Buffers are there, parameters on torch's ``meta`` device."""

    model: nn.Module
    read: Callable[[str, Part], Tensor]
    """The part of a parameter, by its name; on the CPU, of the parameter's type."""


@dataclass(frozen=True)
class _Fill:
    """An operation that wrote to a parameter's storage."""

    operation: Any
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    random: Tensor | None
    """The generator's state before, where it draws."""

    def __call__(self, flat: Tensor) -> None:
        with contextlib.ExitStack() as stack:
            if self.random is not None:
                stack.enter_context(torch.random.fork_rng(devices=[]))
                torch.set_rng_state(self.random)
            self.operation(flat.as_strided(self.size, self.stride, self.offset), *self.arguments, **self.options)


class _Unknown(Exception):
    """A parameter is made in a way that is not followed: from another one."""


class _Recorder(TorchDispatchMode):
    """Notes what is written to tensors on ``meta``, and draws from the generator what they would have drawn. Where it
    does not draw nothing will be repeated, and nothing is noted.
    """

    def __init__(self, *, draws: bool) -> None:
        super().__init__()
        self._draws = draws
        self._kept: list[Any] = []  # a storage that goes could leave its address to another
        self.fills: dict[int, list[_Fill]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, target = kwargs or {}, args[0] if args else None
        if not isinstance(target, Tensor) or not target.is_meta:
            return func(*args, **kwargs)
        found = func(*args, **kwargs)
        if not self._draws:
            return found
        if _writes(func):
            if any(isinstance(one, Tensor) and one.is_meta for one in (*args[1:], *kwargs.values())):
                raise _Unknown
            self._note(func, target, args[1:], kwargs)
        elif _copies(func, args) and _key(target) in self.fills:
            self._kept.append(found.untyped_storage())
            self.fills[_key(found)] = list(self.fills[_key(target)])
        return found

    def begin(self, empty: Tensor, value: Tensor) -> None:
        """``empty`` stands for ``value`` from now on."""
        if not self._draws:
            return
        self._kept.append(empty.untyped_storage())
        self.fills[_key(empty)] = []
        if value.numel() <= _KEPT:
            copy = torch.ops.aten.copy_.default
            shape = tuple(empty.shape), tuple(empty.stride())
            self.fills[_key(empty)] = [_Fill(copy, *shape, 0, (value.detach().clone(),), {}, None)]

    def _note(self, func: Any, target: Tensor, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        draws = torch.Tag.nondeterministic_seeded in func.tags
        state = torch.get_rng_state() if draws else None
        shape = tuple(target.shape), tuple(target.stride()), target.storage_offset()
        if draws:
            room = torch.empty(target.untyped_storage().nbytes() // target.itemsize, dtype=target.dtype)
            func(room.as_strided(*shape), *arguments, **options)
        fills = self.fills.setdefault(_key(target), [])
        if target.nbytes == target.untyped_storage().nbytes() and func.overloadpacket in _OVERWRITING:
            fills.clear()
        fills.append(_Fill(func, *shape, arguments, options, state))


_OVERWRITING = {torch.ops.aten.normal_, torch.ops.aten.uniform_, torch.ops.aten.zero_, torch.ops.aten.fill_}


def _writes(func: Any) -> bool:
    first = next(iter(func._schema.arguments), None)
    return first is not None and first.alias_info is not None and first.alias_info.is_write


def _copies(func: Any, args: tuple[Any, ...]) -> bool:
    """A tensor of its own with the same numbers; Hugging Face pads tied biases, mostly by nothing."""
    aten = torch.ops.aten
    return func is aten.clone.default or (func is aten.constant_pad_nd.default and not any(args[1]))


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextlib.contextmanager
def _without_memory(recorder: _Recorder) -> Iterator[None]:
    """Parameters lose their memory as soon as a module has them."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            empty = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
            empty.__dict__.update(parameter.__dict__)
            recorder.begin(empty, parameter)
            parameter = empty
        register(module, name, parameter)

    nn.Module.register_parameter = register_empty
    try:
        with recorder:
            yield
    finally:
        nn.Module.register_parameter = register


def drawn(make: Callable[[], nn.Module]) -> Deferred | None:
    """What ``make`` makes, with the numbers that it draws from torch's generator of the CPU; None where parameters are
    made from one another.
    """
    recorder = _Recorder(draws=True)
    try:
        with _without_memory(recorder):
            model = make()
    except _Unknown:
        return None
    fills = {name: recorder.fills.get(_key(one), []) for name, one in model.named_parameters()}
    if not all(_is_filled(fills[name], one) for name, one in model.named_parameters()):
        return None
    shapes = {name: (tuple(one.shape), tuple(one.stride()), one.dtype) for name, one in model.named_parameters()}

    def read(name: str, part: Part) -> Tensor:
        shape, stride, dtype = shapes[name]
        flat = torch.empty(torch.Size(shape).numel(), dtype=dtype)
        with torch.no_grad():
            for fill in fills[name]:
                fill(flat)
        return flat.as_strided(shape, stride)[part].clone()

    return Deferred(model=model, read=read)


def _is_filled(fills: Sequence[_Fill], parameter: Tensor) -> bool:
    first = next(iter(fills), None)
    return first is not None and torch.Size(first.size).numel() == parameter.numel() and first.offset == 0


def undrawn(make: Callable[[], ModelT]) -> ModelT:
    """What ``make`` makes, with its parameters on ``meta``. Nothing is drawn."""
    with _without_memory(_Recorder(draws=False)), torch.random.fork_rng(devices=[]):
        return make()


def without_numbers(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """What ``make`` makes, of a type, with memory for its parameters. Nothing is drawn."""
    model = undrawn(make)
    give(model, lambda name, one: torch.empty_like(one, device="cpu", dtype=dtype))
    cast_buffers(model, dtype)
    return model


def give(model: nn.Module, numbers: Callable[[str, nn.Parameter], Tensor]) -> None:
    """Puts tensors in the places of the parameters on ``meta``. What is tied stays so."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            places.setdefault(id(parameter), []).append((module, name))
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            filled = nn.Parameter(numbers(name, parameter), requires_grad=parameter.requires_grad)
            for module, own_name in places[id(parameter)]:
                module._parameters[own_name] = filled
