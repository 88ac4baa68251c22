"""What was compiled, computed as it is written."""

from __future__ import annotations

import contextlib
import sys

import torch


def uncompiled() -> contextlib.AbstractContextManager[object]:
    """For what is computed once, in shapes of its own. Where nothing was compiled, no compiler is imported for that."""
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    stance: contextlib.AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance
