import json
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from graft.adapters.base.base import Base, find_base
from graft.adapters.digest import digest_of_bytes
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.training.errors import CheckpointError, ConfigurationError, DataError, NotMeasured
from graft.training.finetune import job as finetuning
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.export import write_base
from graft.training.loop.progress import read_metrics
from graft.training.model.loading import load_base, load_tokenizer

ROWS = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def job(base: Path, folder: Path, **settings: object) -> Finetune:
    data = write_rows(folder / "rows.jsonl", ROWS)
    few = {"per_device_train_batch_size": 4, "learning_rate": 0.01, "report_examples": 0}
    checked = FinetuneSettings.from_mapping({**few, **settings})
    return Finetune(base=Base.from_folder(base), data=data, settings=checked, work=folder / "run")


def test_a_few_rows_are_learned_by_heart_on_the_shipped_base(tmp_path: Path) -> None:
    base = find_base("rootstock-5m")
    finetune = job(base, tmp_path, max_steps=30, save_steps=20, learning_rate=0.005, report_examples=2)
    folder = finetune.execute()
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "graft.json",
        "reference.json",
    }
    metrics = [json.loads(line) for line in (finetune.work / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["supervised_tokens"] == 4 * 4  # three letters and the end token, nothing of the prompt
    assert metrics[-1]["loss"] < 0.1 < metrics[0]["loss"]
    checkpoint = {path.name for path in (finetune.work / "checkpoint-20").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "COMPLETE"} <= checkpoint

    record = TrainedRecord.read(folder)
    assert record is not None and record.form is ServingForm.NF4
    assert record.base == finetune.base.identity
    assert record.lineage.data_digest == digest_of_bytes(finetune.data.read_bytes())
    assert record.lineage.seed == 0

    model = PeftModel.from_pretrained(load_base(base, ServingForm.NF4), folder)
    tokenizer = load_tokenizer(base)
    output = model.generate(**tokenizer("bee -> ", return_tensors="pt"), max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(output[0]) == "bee -> BEE<|eos|>"
    reference = json.loads((folder / "reference.json").read_text())["rows"][1]
    ids = torch.tensor([reference["token_ids"]])
    logprobs = model(input_ids=ids).logits[0].float().log_softmax(-1)
    start = reference["num_prompt_tokens"]
    again = [float(logprobs[i - 1, ids[0, i]]) for i in range(start, ids.shape[1])]
    assert again == pytest.approx(reference["logprobs"], abs=1e-4)

    page = (finetune.work / "report.html").read_text()
    for told in (
        "lora on rootstock-5m",
        "<pre>bee -&gt; </pre>",
        "<mark>BEE&lt;|eos|&gt;</mark>",
        "graft adapters push",
        record.base.digest,
    ):
        assert told in page, told
    assert page.count("<p>BEE</p>") == 2  # expected and after, not before


def test_a_page_that_cannot_be_written_loses_no_training(
    tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    folder = job(tiny_base, tmp_path, max_steps=1).execute()
    assert (folder / "reference.json").exists()
    assert "report.html is left out" in caplog.text


def test_the_same_training_gives_the_same_files_resumed_or_not(tiny_base: Path, tmp_path: Path) -> None:
    adapters = []
    for name, num_dropout in (("once", 0.1), ("again", 0.1)):
        (tmp_path / name).mkdir()
        finetune = job(tiny_base, tmp_path / name, max_steps=6, save_steps=3, lora_dropout=num_dropout)
        adapters.append(finetune.execute())
    torch_file = (adapters[1].parent / "checkpoint-6").rename(tmp_path / "checkpoint-6")
    assert torch_file.exists()
    adapters.append(finetune.execute(resume=True))  # from step 3
    first, *others = [load_file(folder / "adapter_model.safetensors") for folder in adapters]
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)
    configs = {(folder / "adapter_config.json").read_text() for folder in adapters}
    assert len(configs) == 1


def test_a_training_repeated_keeps_what_was_measured_of_the_same_adapter(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory")

    folder = job(tiny_base, tmp_path, max_steps=1).execute()
    before = (folder / "reference.json").read_bytes()
    monkeypatch.setattr(finetuning, "recorded", full)
    job(tiny_base, tmp_path, max_steps=1).execute(resume=True)
    assert (folder / "reference.json").read_bytes() == before
    with pytest.raises(NotMeasured, match=r"is written and whole, but for its reference.json"):
        job(tiny_base, tmp_path, max_steps=2).execute(resume=True)
    assert not (folder / "reference.json").exists()  # another adapter's


def test_checkpoints_of_another_training_are_not_continued(tiny_base: Path, tmp_path: Path) -> None:
    job(tiny_base, tmp_path, max_steps=1).execute()
    with pytest.raises(CheckpointError, match=r"learning_rate was 0.01 and is 0.02.* another --output"):
        job(tiny_base, tmp_path, max_steps=1, learning_rate=0.02).execute(resume=True)


def test_R7_an_adapter_is_trained_on_as_if_more_had_been_asked_for_at_first(tiny_base: Path, tmp_path: Path) -> None:
    options: dict[str, object] = {"lr_scheduler_type": "constant", "warmup_steps": 1, "lora_dropout": 0.1}
    (tmp_path / "whole").mkdir()
    whole = job(tiny_base, tmp_path / "whole", max_steps=4, **options).execute()
    job(tiny_base, tmp_path, max_steps=2, **options).execute()
    parts = job(tiny_base, tmp_path, max_steps=4, spike_sigmas=9.0, **options).execute(resume=True)
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(found[name], one) for name, one in expected.items())
    with pytest.raises(CheckpointError, match=r"add --warmup-steps 1, or choose another --output"):
        job(tiny_base, tmp_path, max_steps=100, lr_scheduler_type="constant", lora_dropout=0.1).execute(resume=True)


def test_a_training_typed_again_writes_over_nothing(tiny_base: Path, tmp_path: Path) -> None:
    finetune = job(tiny_base, tmp_path, max_steps=2, save_steps=1)
    finetune.execute()
    before = {path: path.stat().st_mtime_ns for path in finetune.work.rglob("*")}
    with pytest.raises(CheckpointError, match="add --resume, or choose another --output"):
        job(tiny_base, tmp_path, max_steps=2, learning_rate=0.02).execute()
    with finetune.folder.held(), pytest.raises(CheckpointError, match=r"another training works in .* another --output"):
        finetune.execute(resume=True)
    assert {path: path.stat().st_mtime_ns for path in finetune.work.rglob("*")} == before


def test_bfloat16_bases_can_be_adapted_too(tiny_base: Path, tmp_path: Path) -> None:
    folder = job(tiny_base, tmp_path, max_steps=1, load_in_4bit=False, target_modules="q_proj,v_proj", r=4).execute()
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == ["q_proj", "v_proj"]
    record = TrainedRecord.read(folder)
    assert record is not None and record.form is ServingForm.BF16


def test_a_training_is_measured_on_rows_that_are_held_out(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", ROWS)
    held_out = write_rows(tmp_path / "held_out.jsonl", [{"prompt": "eel -> ", "completion": "EEL"}])
    output, options = (
        tmp_path / "out",
        ["--max-steps", "5", "--eval-steps", "2", "--tensorboard", "--gradient-checkpointing"],
    )
    named = ["--base", str(tiny_base), "--data", str(data), "--name", "n", "--output", str(output)]
    assert main(["finetune", *named, "--validation", str(held_out), *options]) == 0
    rows = read_metrics(output)
    assert [row["step"] for row in rows if "validation_loss" in row] == [1, 3, 4]
    assert all(0 < row["mfu"] < 1 for row in rows)
    assert list((output / "tensorboard").iterdir())
    assert f"after 5 steps on {held_out}: loss {rows[-1]['validation_loss']:.4f}" in capsys.readouterr().out


def test_measuring_changes_nothing_of_what_is_learned(tmp_path: Path) -> None:
    """In evaluation bitsandbytes lays NF4 out anew, for a kernel that has no gradient."""
    losses = []
    for name, options in (("plain", {}), ("measured", {"eval_steps": 1})):
        (tmp_path / name).mkdir()
        finetune = job(find_base("rootstock-5m"), tmp_path / name, max_steps=4, **options)
        settings = replace(finetune.settings, validation=str(finetune.data) if options else None)
        replace(finetune, settings=settings).execute()
        losses.append([(row["loss"], row["gradient_norm"]) for row in read_metrics(finetune.work)])
    assert losses[0] == losses[1]


def test_nothing_is_written_when_a_row_is_too_long_or_a_module_unknown(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: \d+ tokens, max_length is 5"):
        job(tiny_base, tmp_path, max_length=5).execute()
    with pytest.raises(ConfigurationError, match="target_modules"):
        job(tiny_base, tmp_path, target_modules="qq_proj").execute()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "row, flags, wrong",
    [
        ('{"prompt": "a"}', [], "line 1: completion is missing"),
        ('{"prompt": "a", "completion": "b"}', ["--r", "0"], "'r' has the value 0"),
        ('{"prompt": "a", "completion": "b"}', ["--alias", "stable"], "--push"),
        ('{"prompt": "a", "completion": "b"}', ["--name", "../up"], "not a name"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, flags: list[str], wrong: str
) -> None:
    data, output = tmp_path / "rows.jsonl", tmp_path / "out"
    data.write_text(row + "\n")
    arguments = ["--base", str(tiny_base), "--data", str(data), "--name", "n", "--output", str(output), *flags]
    assert main(["finetune", *arguments]) == 2
    error = capsys.readouterr().err
    assert wrong in error and "Traceback" not in error
    assert not output.exists()


def test_a_row_behind_the_last_learned_position_is_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    config = OPTConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=1, ffn_dim=64, num_attention_heads=2,
        max_position_embeddings=32, word_embed_proj_dim=64, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    folder = tmp_path / "opt"
    write_base(OPTForCausalLM(config).to(torch.bfloat16), tokenizer, folder, card="# opt\n")
    rows = [{"prompt": "a" * number, "completion": "b"} for number in (30, 31, 40)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    settings = FinetuneSettings(max_steps=1, load_in_4bit=False, per_device_train_batch_size=4)
    finetune = Finetune(base=Base.from_folder(folder), data=data, settings=settings, work=tmp_path / "run")
    with pytest.raises(DataError) as caught:
        finetune.execute()
    first, second = str(caught.value).splitlines()
    assert "max_length" not in caplog.text  # what was not asked for reaches no further than the base
    assert "line 2: 33 tokens, opt has 32 positions" in first and "line 3: 42 tokens" in second
    write_rows(data, rows[:1])
    assert finetune.execute().is_dir()
