"""The compiled kernel (`kernel.cpp`), called through ctypes: a call per module and step, microseconds each."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from graft.server.engine.lora_cpu.kernel import AddLora
from graft.server.engine.lora_cpu.segments import Segments
from graft.server.engine.lora_cpu.slot_weights import SlotWeights


class _Slice(ctypes.Structure):
    _fields_ = (
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("rank", ctypes.c_void_p),
        ("out", ctypes.c_int32),
    )


class _Module(ctypes.Structure):
    _fields_ = (
        ("slices", ctypes.POINTER(_Slice)),
        ("num_slices", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
        ("max_rank", ctypes.c_int32),
        ("is_bf16", ctypes.c_int32),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("num_segments", ctypes.c_int32),
        ("num_rows", ctypes.c_int32),
    )


class CompiledKernel:
    """Segmented products with the processor's vector units."""

    def __init__(self, library: Path) -> None:
        """Load a library (see `native.libraries`). Raises `OSError` where it cannot be loaded here."""
        self._library = ctypes.CDLL(str(library))
        self._library.graft_lora_products.restype = ctypes.c_char_p
        self._add = self._library.graft_lora_add
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._add.argtypes = (pointer, pointer, number, pointer, number, pointer, number)
        self._step = _Step()
        self._segments = Segments()
        self._kept: list[object] = []
        self.name = f"compiled ({self._library.graft_lora_products().decode()})"

    def begin_step(self, segments: Segments) -> None:
        """Take the rows of the step that follows."""
        self._segments = segments  # keeps the arrays alive
        self._step.rows = segments.rows.ctypes.data
        self._step.starts = segments.starts.ctypes.data
        self._step.slots = segments.slots.ctypes.data
        self._step.num_segments = len(segments)
        self._step.num_rows = segments.num_rows

    def bind(self, weights: SlotWeights) -> AddLora:
        """The update for one module."""
        module = self._describe(weights)
        add, module_at, step_at = self._add, ctypes.addressof(module), ctypes.addressof(self._step)
        dtype = weights.dtype

        def add_lora(x_RI: torch.Tensor, y_RO: torch.Tensor) -> None:
            if x_RI.dtype is not dtype or y_RO.dtype is not dtype or x_RI.stride(1) != 1 or y_RO.stride(1) != 1:
                raise RuntimeError(
                    f"x is {x_RI.dtype} {x_RI.stride()}, y {y_RO.dtype} {y_RO.stride()}, not {dtype} rows"
                )
            status = add(
                module_at, step_at, x_RI.shape[0], x_RI.data_ptr(), x_RI.stride(0), y_RO.data_ptr(), y_RO.stride(0)
            )
            if status:
                raise RuntimeError(f"a batch of {x_RI.shape[0]} rows for a step of {self._step.num_rows}")

        return add_lora

    def _describe(self, weights: SlotWeights) -> _Module:
        if weights.dtype not in (torch.bfloat16, torch.float32):
            raise ValueError(f"the LoRA kernel computes in bfloat16 or float32, not {weights.dtype}")
        slices = (_Slice * len(weights.a))()
        for each, a, b, ranks in zip(slices, weights.a, weights.b, weights.ranks, strict=True):
            each.a, each.b, each.rank, each.out = a.data_ptr(), b.data_ptr(), ranks.data_ptr(), b.shape[2]
        module = _Module(slices, len(slices), weights.a[0].shape[2], weights.max_rank, weights.dtype is torch.bfloat16)
        self._kept += [slices, module, weights]  # the library holds their addresses
        return module
