"""Loading what was saved: a base in the form it is trained on and served in, its tokenizer, a model to train on."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CompressedTensorsConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.utils.logging import disable_progress_bar

from graft.adapters.base import files as base_files
from graft.adapters.form import ServingForm
from graft.training.errors import ConfigurationError, first_line
from graft.training.model.attention.soft_caps import keep_soft_caps
from graft.training.model.blocks import is_in_a_block
from graft.training.model.deferred import Deferred, Part, undrawn
from graft.training.model.quantized import bitsandbytes_functional, llm_int8_config, nf4_config

CPU = torch.device("cpu")
PLAIN_FORMS = (ServingForm.NF4, ServingForm.LLM_INT8, ServingForm.BF16, ServingForm.FP32)
"""What plain weights can be brought into while they are loaded; the others are made by ``graft quantize``."""


def load_base(
    path: Path,
    form: ServingForm,
    *,
    storage: torch.dtype = torch.uint8,
    device: torch.device = CPU,
    model_class: Any = AutoModelForCausalLM,
    config: PretrainedConfig | None = None,
    double_quantization: bool = False,
) -> PreTrainedModel:
    """Loads a base for evaluation or adaptation onto a device, where it is quantized, too; its parameters are frozen.
    ``model_class`` and ``config`` are those of another head, whose weights are drawn where the folder has none.

    int8 and int4 are computed with as the bfloat16 numbers that the integers stand for, which is also what the engine
    multiplies by. ``storage`` is where the bits of NF4 lie, and ``double_quantization`` quantizes its
    scales, too.

    Raises:
        ConfigurationError: the folder's weights are not in this form and cannot be brought into it.
        InvalidBase: the folder is no base.
    """
    found = base_files.read(path).form
    _require_form(path, found, form)
    disable_progress_bar()
    if form in (ServingForm.NF4, ServingForm.LLM_INT8):
        bitsandbytes_functional()
    dtype = torch.float32 if form is ServingForm.FP32 else torch.bfloat16
    with warnings.catch_warnings():
        # That we pass how to load what the folder holds is meant.
        warnings.filterwarnings("ignore", "You passed `quantization_config`")
        quantization = _quantization(found, form, storage, double_quantization)
        if config is not None:
            config = _keep_heads(model_class, config, quantization.get("quantization_config"))
        model = _loaded(path, model_class, config, dtype=dtype, device_map={"": device}, **quantization)
    if quantization and found is None:
        _let_go_of_files(model)
    _keep_odd_sizes_unpacked(model)
    keep_soft_caps(model)
    model.requires_grad_(False)
    model.eval()
    return model


def _let_go_of_files(model: PreTrainedModel) -> None:
    """What was not quantized lies in mapped files still, and keeps them whole in memory: plain weights beside their
    four bits.
    """
    for one in model.parameters():
        if type(one) is nn.Parameter and one.device == CPU:
            one.data = one.data.clone()


def _keep_odd_sizes_unpacked(model: PreTrainedModel) -> None:
    """On CPUs with AVX-512 bitsandbytes packs 4-bit layers anew when they are first evaluated, and can do so only for
    whole blocks of 64 inputs and 32 outputs.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu") and (module.out_features % 32 or module.in_features % 64):
            module.support_avx512bf16_for_cpu = False


def _require_form(path: Path, found: ServingForm | None, form: ServingForm) -> None:
    if found is not None and found is not form:
        raise ConfigurationError(
            f"the weights in {path} are {found} already and cannot become {form}; take the plain base."
        )
    if found is None and form not in PLAIN_FORMS:
        raise ConfigurationError(
            f"the weights in {path} are plain and become {form} only by `graft quantize --form {form}`; "
            f"take the folder that it writes, or one of {', '.join(PLAIN_FORMS)}."
        )


def _quantization(
    found: ServingForm | None, form: ServingForm, storage: torch.dtype, double_quantization: bool
) -> dict[str, Any]:
    """Keyword arguments: what to do to the weights on their way in."""
    if found in (ServingForm.INT8, ServingForm.INT4):
        return {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    if found is None and form is ServingForm.NF4:
        return {"quantization_config": nf4_config(storage=storage, double_quantization=double_quantization)}
    if found is None and form is ServingForm.LLM_INT8:
        return {"quantization_config": llm_int8_config()}
    return {}


_KEPT = {"bitsandbytes": "llm_int8_skip_modules", "compressed-tensors": "ignore"}
"""What a folder's configuration calls the layers that are not quantized."""


def _keep_heads(model_class: Any, config: PretrainedConfig, quantization: Any) -> PretrainedConfig:
    """A head is learned, and stays as it is: by itself transformers keeps what is last, of which a head's bias is no
    layer. Says so in ``quantization``, or in the configuration of a folder that is quantized; returns that.
    """
    own: Mapping[str, Any] | None = getattr(config, "quantization_config", None)
    is_to_be = hasattr(quantization, "llm_int8_skip_modules")
    kept_by = None if own is None else _KEPT.get(own["quant_method"])
    if not is_to_be and kept_by is None:
        return config
    with torch.device("meta"):
        made: PreTrainedModel = model_class(config)
    if made.base_model is made:
        return config  # an architecture that names its trunk otherwise: what is a head is not known
    heads = [name for name, _ in made.named_children() if name != made.base_model_prefix]
    if is_to_be:
        quantization.llm_int8_skip_modules = heads
        return config
    kept = copy.deepcopy(config)
    assert own is not None and kept_by is not None
    kept.quantization_config = {**own, kept_by: [*(own.get(kept_by) or []), *heads]}
    return kept


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Raises ``ConfigurationError`` where the folder's tokenizer cannot be read."""
    try:
        tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ConfigurationError(f"{path} holds no tokenizer that can be read: {first_line(error)}") from None
    return tokenizer


def load(folder: Path, model_class: Any, *, config: PretrainedConfig | None = None) -> PreTrainedModel:
    """One in float32, with the heads of a class, to go on training it. With a ``config`` of its own the folder may lack
    the head. Raises ``ConfigurationError``.
    """
    try:
        model = _loaded(folder, model_class, config, dtype=torch.float32)
    except ConfigurationError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigurationError(f"the weights in {folder} cannot be loaded: {first_line(error)}") from None
    keep_soft_caps(model)
    return model


def _loaded(folder: Path, model_class: Any, config: PretrainedConfig | None, **options: Any) -> PreTrainedModel:
    """Raises ``ConfigurationError`` where the folder lacks more than a new head."""
    if config is None:
        plain: PreTrainedModel = model_class.from_pretrained(folder, local_files_only=True, **options)
        return plain
    renamed = _renamed(model_class, config)
    if renamed:
        options["key_mapping"] = renamed
    with _quiet():
        model, found = model_class.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True, **options
        )
    if lacks := sorted(name for name in found["missing_keys"] if is_in_a_block(name)):
        raise ConfigurationError(
            f"the weights in {folder} are not those of a {config.model_type}: {lacks[0]} and {len(lacks) - 1} more of "
            "its blocks are missing; take the folder as its maker saved it."
        )
    made: PreTrainedModel = model
    if renamed:
        made._weight_conversions = None  # else they would be saved under the names that they had
    return made


def _renamed(model_class: Any, config: PretrainedConfig) -> dict[str, str]:
    """Of a decoder whose class with another head calls the base model otherwise, as Llama's for questions does."""
    language = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if language is None or language.base_model_prefix == model_class.base_model_prefix:
        return {}
    return {rf"^{language.base_model_prefix}\.": f"{model_class.base_model_prefix}."}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers warns of weights that are drawn, and of heads that are left out: here both are meant."""
    log = logging.getLogger("transformers")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def parts(model: nn.Module) -> Mapping[str, PreTrainedModel]:
    """What of a model is saved, by subfolder: a plain one itself, of a composite one its models."""
    if isinstance(model, PreTrainedModel):
        return {"": model}
    found: Mapping[str, PreTrainedModel] = model.parts
    return found


Place = tuple[Path, str]
"""A file, and a tensor's name in it."""


def load_in_parts(folder: Path, make: Callable[[], PreTrainedModel]) -> Deferred | None:
    """A model whose weights lie in a folder's safetensors as they are; None where they are made from what lies there,
    such as experts in one piece from single ones.
    """
    model = undrawn(make)
    places = _places(model, _named_as_in(model, sorted(folder.glob("*.safetensors"))))
    if places is None:
        return None
    for name, buffer in model.named_buffers():
        if name in places:
            buffer.copy_(_read(*places[name], (slice(None),) * buffer.ndim))

    def read(name: str, part: Part) -> Tensor:
        return _read(*places[name], part)

    return Deferred(model=model, read=read)


def _named_as_in(model: PreTrainedModel, files: Sequence[Path]) -> dict[str, Place]:
    """What lies there unchanged, under the names that it has in the model: Hugging Face renames older ones (Pythia's
    ``embed_out``), and adds or leaves out the base model's prefix.
    """
    transforms = get_model_conversion_mapping(model)
    renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
    converters = [one for one in transforms if isinstance(one, WeightConverter)]
    there = model.state_dict()
    found = {}
    for path in files:
        for own in _names(path):
            name, made_by = rename_source_key(own, renamings, converters, model.base_model_prefix, there)
            if made_by is None:
                found[own if name not in there and own in there else name] = path, own
    return found


def _places(model: nn.Module, files: Mapping[str, Place]) -> dict[str, Place] | None:
    """Where each parameter lies, which may have several names in the model where it is tied, and each buffer that lies
    there.
    """
    names: dict[int, list[str]] = {}
    for name, one in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(one), []).append(name)
    found = {name: files[name] for name, _ in model.named_buffers() if name in files}
    for name, one in model.named_parameters():
        place = next((files[other] for other in names[id(one)] if other in files), None)
        if place is None or _shape(*place) != tuple(one.shape):
            return None
        found[name] = place
    return found


def _names(path: Path) -> Sequence[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _shape(path: Path, name: str) -> tuple[int, ...]:
    with safe_open(path, framework="pt") as file:
        return tuple(file.get_slice(name).get_shape())


def _read(path: Path, name: str, part: Part) -> Tensor:
    with safe_open(path, framework="pt") as file:
        found: Tensor = file.get_slice(name)[part] if part else file.get_tensor(name)
        return found
