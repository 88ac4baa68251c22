import argparse
from pathlib import Path

import pytest

from graft.training.errors import ConfigurationError
from graft.training.finetune.settings import FinetuneSettings
from graft.training.settings.settings import add_flags, given, read_settings
from graft.training.tasks.settings import TaskSettings


@pytest.mark.parametrize(
    "name, text",
    [
        ("s.yaml", "learning_rate: 2e-4\nr: 8\ntarget_modules: [q_proj]\npacking: false\n"),
        ("s.json", '{"learning_rate": 2e-4, "r": 8, "target_modules": ["q_proj"], "packing": false}'),
        ("s.toml", 'learning_rate = 2e-4\nr = 8\ntarget_modules = ["q_proj"]\npacking = false\n'),
    ],
)
def test_the_same_settings_from_three_kinds_of_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = FinetuneSettings.from_mapping(read_settings(tmp_path / name))
    assert found == FinetuneSettings(learning_rate=2e-4, r=8, target_modules=("q_proj",), packing=False)


@pytest.mark.parametrize(
    "values, wrong",
    [
        ({"learning_rat": 1}, "unknown setting 'learning_rat'"),
        ({"beta": 0.1}, "'beta' is for preferences: take `graft align`"),
        ({"r": 0}, "'r' has the value 0"),
        ({"prompt_tuning_init_text": " "}, "'prompt_tuning_init_text' has the value ' '; it must be words"),
        ({"r": 8.5}, "must be of type int"),
        ({"r": True}, "must be of type int"),
        ({"packing": "yes"}, "must be of type bool"),
        ({"learning_rate": float("nan")}, "must be of type float"),
        ({"learning_rate": float("inf")}, "must be above 0"),
        ({"lora_dropout": 1.0}, "below 1"),
        ({"lr_scheduler_type": "polynomial"}, "'cosine' or 'linear'"),
        ({"bnb_4bit_quant_type": "fp4"}, "'nf4'"),
        ({"target_modules": []}, "target_modules"),
        (
            {"num_train_epochs": 1e308},
            "'num_train_epochs' has the value 1e+308; it must be above 0 and at most a million",
        ),
        ({"per_device_train_batch_size": 10**20}, "it must be from 1 to 65536"),
        ({"num_train_epochs": 0}, "above 0"),
        ({"max_length": 10**20}, "it must be from 1 to 16777216"),
    ],
)
def test_bad_settings_name_the_value(values: dict[str, object], wrong: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        FinetuneSettings.from_mapping(values)
    assert wrong in str(caught.value)


@pytest.mark.parametrize(
    "name, text",
    [
        ("s.yaml", "a: [1"),
        ("s.yaml", "seed: 1\nseed: 2"),
        ("s.yaml", "seed: 1\nrank_pattern: {q_proj: 1, q_proj: 2}"),
        ("s.json", "{"),
        ("s.toml", "a ="),
        ("s.ini", ""),
        ("s.yaml", "- 1"),
        ("s.yaml", "seed: !!int x"),
        ("s.yaml", "a: " + "[" * 5000),
        ("s.toml", "a = " + "[" * 5000),
        ("s.json", "[" * 100_000),
    ],
    ids=str,
)
def test_unreadable_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError):
        read_settings(tmp_path / name)


@pytest.mark.parametrize("date", ["2024-13-45", "2024-12-24", "!!timestamp 2024-13-45"])
def test_a_date_is_text_in_every_kind_of_file_that_has_dates(tmp_path: Path, date: str) -> None:
    (tmp_path / "s.yaml").write_text(f"seed: {date}")
    with pytest.raises(ConfigurationError, match=f"seed.*{date[-10:]}"):
        FinetuneSettings.from_mapping(read_settings(tmp_path / "s.yaml"))


def test_a_flag_that_two_commands_share_tells_both_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, FinetuneSettings)
    add_flags(parser, TaskSettings, title="settings of --task", besides=FinetuneSettings)
    told = " ".join(parser.format_help().split())
    assert "Of those above, --learning-rate: peak; lora wants more, such as 1e-3 (5e-05);" in told
    assert "--num-train-epochs: times" not in told.partition("settings of --task")[2], "it begins as the other does"


@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        ([], ("none", None)),
        (["--gradient-checkpointing", "--torch-compile"], ("full", True)),
        (["--gradient-checkpointing", "selective", "--no-torch-compile"], ("selective", False)),
        (["--no-gradient-checkpointing"], ("none", None)),
    ],
)
def test_flags_that_take_a_word_or_none(flags: list[str], meant: tuple[str, bool | None]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    add_flags(parser, FinetuneSettings)
    settings = FinetuneSettings.from_mapping(given(parser.parse_args(flags), FinetuneSettings))
    assert (settings.gradient_checkpointing, settings.torch_compile) == meant
