"""The form in which a folder's weights already are, read from `quantization_config` in its config.json."""

from __future__ import annotations

from collections.abc import Mapping

from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.form import ServingForm

_BY_BITS = {4: ServingForm.INT4, 8: ServingForm.INT8}


def folder_form(config: Mapping[str, object]) -> ServingForm | None:
    """The form that config.json declares; None for plain weights. Raises InvalidBase for a form that is not served."""
    section = config.get("quantization_config")
    if section is None:
        return None
    form = _form(section) if isinstance(section, Mapping) else None
    if form is None:
        method = section.get("quant_method") if isinstance(section, Mapping) else section
        problem = f"{str(method)[:100]!r} with these options is none of the forms that are served"
        remedy = f"take the plain weights, and quantize them to {', '.join(ServingForm)}"
        reason = Reason(field="config.json:quantization_config", problem=problem, remedy=remedy)
        raise InvalidBase("the folder is not a usable base", [reason])
    return form


def _form(section: Mapping[str, object]) -> ServingForm | None:
    method = section.get("quant_method")
    if method == "bitsandbytes":
        if section.get("load_in_8bit") is True:
            return ServingForm.LLM_INT8
        return ServingForm.NF4 if section.get("bnb_4bit_quant_type") == "nf4" else None
    if method == "compressed-tensors" and section.get("format") == "pack-quantized":
        return _BY_BITS.get(_packed_bits(section))
    return None


def _packed_bits(section: Mapping[str, object]) -> int:
    """Bits per weight where all groups agree and activations are left alone, else 0."""
    groups = section.get("config_groups")
    found = set()
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        bits = weights.get("num_bits") if isinstance(weights, Mapping) else None
        found.add(bits if isinstance(bits, int) and not group.get("input_activations") else 0)
    return found.pop() if len(found) == 1 else 0
