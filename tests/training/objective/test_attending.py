"""Attention by where documents begin gives what masks give, on every architecture that it is taken for; each kind of
attention is taken where it can be, and else refused.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.errors import ConfigurationError
from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.model.attention import in_blocks as attention
from graft.training.model.attention import varlen
from graft.training.model.attention.soft_caps import keep_soft_caps
from graft.training.model.loading import load
from graft.training.objective import attending
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective
from graft.training.objective.masks import attention_inputs
from tests.training.objective.test_architectures import TAKEN, apart, assert_alike, learned, packed
from tests.training.objective.tiny_models import tiny

CPU = Circumstances(device="cpu", dtype=torch.float32)
GPU = Circumstances(device="cuda", dtype=torch.bfloat16)
_BY_REASON = {
    "attends in eager only": (
        *("codegen", "git", "got_ocr2", "gpt_neo", "gpt_neox_japanese", "gpt_oss", "gptj", "granite_swa"),
        *("granitemoe_swa", "mimo_v2_flash", "mpt", "xglm"),
    ),
    "soft caps": ("gemma2", "vaultgemma"),
    "does not leave its attention to others": (
        *("biogpt", "doge", "falcon", "llama4", "llama4_text", "stablelm", "whisper"),
    ),
    "does not hand down where documents begin": ("moshi", "nemotron"),
    "do not say their window": ("phimoe", "qwen2_moe"),
    "cannot be asked without weights": ("dbrx", "jetmoe", "longcat_flash", "opt"),
}
BY_MASKS = {model_type: reason for reason, types in _BY_REASON.items() for model_type in types}
UNSURE = {"gemma3n_text"}
"""Without weights it can be asked only where its class has computed in this process before: masks, or documents."""
BY_DOCUMENTS = [model_type for model_type in TAKEN if model_type not in {*BY_MASKS, *UNSURE}]


@pytest.mark.parametrize("model_type", BY_DOCUMENTS)
def test_documents_give_what_masks_give(model_type: str) -> None:
    model = tiny(model_type)
    loss, gradient = learned(model, [packed()])
    choose_attention(model, "varlen", CPU)
    found, its_gradient = learned(model, [packed()])
    assert found == pytest.approx(loss, rel=1e-5)
    assert (its_gradient - gradient).norm() <= 1e-4 * gradient.norm()


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma3_text"])
def test_rows_of_one_document_go_by_it_too(model_type: str) -> None:
    model = tiny(model_type)
    choose_attention(model, "varlen", CPU)
    assert_alike(model, [packed()], apart())


@pytest.mark.parametrize("model_type", BY_MASKS)
def test_who_needs_masks_says_why(model_type: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'varlen' cannot be used for a .*: .*{BY_MASKS[model_type]}"):
        choose_attention(tiny(model_type), "varlen", CPU)


@pytest.mark.parametrize("model_type", TAKEN)
def test_eager_gives_what_the_class_does(model_type: str) -> None:
    """It adds masks to scores: a boolean one would show the future."""
    model = tiny(model_type)
    keep_soft_caps(model)
    loss, gradient = learned(model, [packed()])
    choose_attention(model, "eager", CPU)
    found, its_gradient = learned(model, [packed()])
    assert found == pytest.approx(loss, rel=1e-5)
    assert (its_gradient - gradient).norm() <= 1e-4 * gradient.norm()


@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles this attention, and no g++ is here")
@pytest.mark.parametrize("model_type", ["gemma3_text", "llama4_text"])
def test_flex_attention_sees_what_a_mask_shows(model_type: str) -> None:
    """Forward only: torch has no more on CPUs."""
    model, batch = tiny(model_type), packed()

    def logits() -> torch.Tensor:
        given = {"input_ids": batch.input_ids_BL, "position_ids": batch.position_ids_BL, "use_cache": False}
        found: torch.Tensor = model(**given, **attention_inputs(model, batch)).logits
        return found

    with torch.no_grad():
        expected = logits()
        model.set_attn_implementation("flex_attention")
        assert torch.allclose(logits(), expected, atol=1e-4)


def test_soft_caps_are_kept(tmp_path: Path) -> None:
    """Gemma 2's of 50, as loaded: torch's fused kernel would leave them out."""
    tiny("gemma2").save_pretrained(tmp_path)
    capped = load(tmp_path, AutoModelForCausalLM)
    by_class = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert_alike(capped, [packed()], [packed()])
    assert learned(capped.eval(), [packed()])[0] == pytest.approx(learned(by_class.eval(), [packed()])[0], rel=1e-6)
    uncapped = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa").eval()
    assert abs(learned(uncapped, [packed()])[0] / learned(by_class, [packed()])[0] - 1) > 1e-5


@pytest.mark.parametrize(
    ("wanted", "circumstances", "reason"),
    [
        ("flash_attention_2", GPU, "flash-attn is not installed; take varlen"),
        ("flex_attention", CPU, "no backward pass of it for this device; take sdpa"),
        (
            "flex_attention",
            Circumstances(device="cuda", dtype=torch.bfloat16, is_staged=True),
            "cp and pp go with sdpa",
        ),
        (
            "eager",
            Circumstances(device="cpu", dtype=torch.float32, is_split=True),
            "cp gathers keys for sdpa and varlen",
        ),
        ("varlen", Circumstances(device="cpu", dtype=torch.float32, reads_documents=False), "whole documents only"),
    ],
)
def test_what_cannot_be_is_refused(wanted: str, circumstances: Circumstances, reason: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"attn_implementation '{wanted}' cannot be used for a llama: .*{reason}"
    ):
        choose_attention(tiny("llama"), wanted, circumstances)


@pytest.mark.parametrize(("model_type", "reason"), [("gemma2", "leave out the soft caps"), ("gpt_oss", "has none")])
def test_sdpa_is_refused_where_it_would_be_another_model(model_type: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        choose_attention(tiny(model_type), "sdpa", CPU)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with kernels, of which nothing is asked."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))


@pytest.mark.parametrize(
    ("circumstances", "expected"),
    [
        (GPU, varlen.NAME),
        (CPU, "sdpa"),
        (Circumstances(device="cuda", dtype=torch.float32), "sdpa"),
        (Circumstances(device="cuda", dtype=torch.bfloat16, reads_documents=False), "sdpa"),
    ],
)
def test_auto_goes_by_documents_where_kernels_are(circumstances: Circumstances, expected: str, gpu: None) -> None:
    model = tiny("mistral")
    choose_attention(model, "auto", circumstances)
    assert model.config._attn_implementation == expected


@pytest.mark.parametrize(
    ("circumstances", "options", "said"),
    [
        (Circumstances(device="cuda", dtype=torch.float32), {}, "numbers of float32, where kernels take 16 bits"),
        (GPU, {"head_dim": 12}, "heads of 12 and 12"),
        (GPU, {"attention_dropout": 0.1}, "attention's dropout"),
    ],
)
def test_what_goes_by_masks_is_said(
    circumstances: Circumstances, options: dict[str, float], said: str, gpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        choose_attention(tiny("llama", **options), "auto", circumstances)
    assert said in caplog.text


def test_no_kernel_no_varlen(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "kernel_for", lambda device: None)
    with pytest.raises(ConfigurationError, match=r"neither torch\.nn\.attention\.varlen with windows nor flash-attn"):
        choose_attention(tiny("llama"), "varlen", GPU)


def test_offsets_that_do_not_arrive_are_an_error() -> None:
    """And not attention from document to document."""
    model = tiny("nemotron")
    varlen.register()
    for one in model.modules():
        if isinstance(one, PreTrainedModel):
            one.config._attn_implementation = varlen.NAME
    with pytest.raises(RuntimeError, match="does not reach the attention of NemotronAttention"):
        learned(model, [packed()])


def test_sdpa_by_name_stays() -> None:
    """Else blocks of our own take its place in bfloat16 on CPUs."""
    config = AutoConfig.for_model("llama", vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    names = []
    for wanted in ("auto", "sdpa"):
        model: nn.Module = AutoModelForCausalLM.from_config(config)
        choose_attention(model, wanted, CPU)
        Step(model, objective=CausalObjective(), optimizers=adamw())
        names.append(model.config._attn_implementation)
    assert names == [attention.NAME, attention.PLAIN_NAME]
