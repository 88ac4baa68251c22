"""Adapters as other trainers write them, through `graft adapters` on a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from graft.adapters.adapter import UNKNOWN_LINEAGE
from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.client import Client
from tests.adapters.making import register
from tests.cases.harness.command import CommandCase, Commands
from tests.running import BASE, Server
from tests.server.engine.making import write_adapter

WEIGHTS = "adapter_model.safetensors"
PUSH = ["adapters", "push", "{folder}/a", "--name", "case", "--alias", "stable"]
LAYER_3 = r".*\.layers\.3\..*(q_proj|v_proj)$"


def shipped() -> Base:
    return Base.from_folder(shipped_bases()[BASE])


def adapter(folder: Path, **config: object) -> Path:
    """An adapter of rank 4 on every layer's q_proj and v_proj, of rank 8 in layer 3; `config` is added to its own."""
    modules = {name: shape for name, shape in shipped().modules.items() if name.endswith(("q_proj", "v_proj"))}
    made = write_adapter(folder / "a", modules, rank=4, seed=3)
    tensors = load_file(made / WEIGHTS)
    for name in [name for name in tensors if ".layers.3." in name]:
        tensors[name] = np.repeat(tensors[name], 2, axis=0 if "lora_A" in name else 1)
    save_file(tensors, made / WEIGHTS, metadata={"format": "pt"})
    return configured(made, **{"rank_pattern": {LAYER_3: 8}, "alpha_pattern": {LAYER_3: 2}, **config})


def configured(folder: Path, **config: object) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def with_config(**config: object) -> Callable[[Path], object]:
    return lambda folder: adapter(folder, **config)


def with_tensors(tensors: Mapping[str, tuple[int, int]], **config: object) -> Callable[[Path], object]:
    def prepare(folder: Path) -> None:
        made = adapter(folder, **config)
        added = {name: np.ones(shape, np.float32) for name, shape in tensors.items()}
        save_file(load_file(made / WEIGHTS) | added, made / WEIGHTS, metadata={"format": "pt"})

    return prepare


def with_a_wrong_reference(folder: Path) -> None:
    made = adapter(folder)
    TrainedRecord(base=shipped().identity, form=ServingForm.NF4, lineage=UNKNOWN_LINEAGE).write(made)
    row = ReferenceRow(token_ids=tuple(range(40, 60)), num_prompt_tokens=4, logprobs=(-20.0,) * 16)
    Reference(form=ServingForm.NF4, rows=(row,)).write(made)


def with_a_template(folder: Path) -> None:
    (adapter(folder) / "chat_template.jinja").write_text("{{ messages[0].content }}")


def with_a_broken_template(folder: Path) -> None:
    (adapter(folder) / "chat_template.jinja").write_text("{% for message in messages %}")


def as_a_pickle(folder: Path) -> None:
    made = adapter(folder)
    (made / WEIGHTS).rename(made / "adapter_model.bin")


VOCABULARY = "the adapter's vocabulary is 386, the base's 384"
CASES = [
    CommandCase(id="S2 ranks and alphas by pattern", argv=PUSH, prepare=adapter, code=0, says=["case:stable now"]),
    CommandCase(
        id="S2 a pattern that could hang the server",
        argv=PUSH,
        prepare=with_config(rank_pattern={"(a+)+$": 8}),
        says=["adapter_config.json:rank_pattern", "can take for ever", "name the modules"],
    ),
    CommandCase(
        id="S2 tensors that the targets leave out",
        argv=PUSH,
        prepare=with_config(target_modules=r".*\.(q_proj)"),
        says=["v_proj", "as PEFT would"],
    ),
    CommandCase(
        id="S2b a push that the parity check refuses",
        argv=PUSH,
        prepare=with_a_wrong_reference,
        says=["case@1 is not served as it was trained", "nothing of it was kept"],
        silent=["sha256:"],
    ),
    CommandCase(
        id="S3 keys that only say how it was trained",
        argv=PUSH,
        prepare=with_config(
            lorap_emb_lr=1e-6, lora_dtype="fp32", loftq_config={"loftq_bits": 4}, corda_config={"a": 1}
        ),
        code=0,
    ),
    CommandCase(
        id="S3 a key that nobody knows",
        argv=PUSH,
        prepare=with_config(steps_between_prunings=3),
        says=["steps_between_prunings", "remove the key 'steps_between_prunings' from adapter_config.json"],
    ),
    CommandCase(
        id="S3 another method, and what makes a LoRA of it",
        argv=PUSH,
        prepare=with_config(peft_type="LOHA", r=None, lora_alpha=None),
        says=["'LOHA' is not LORA", "graft compile /", f"/a --base {BASE} --output COMPILED"],
    ),
    CommandCase(
        id="S3 DoRA, and what makes a base of it",
        argv=PUSH,
        prepare=with_config(use_dora=True),
        says=["use_dora", "graft compile /", f"/a --base {BASE} --output COMPILED"],
    ),
    CommandCase(
        id="S4 an adapter with two more tokens",
        argv=PUSH,
        prepare=with_tensors(
            {"base_model.model.model.embed_tokens.weight": (386, 256), "base_model.model.lm_head.weight": (386, 256)},
            modules_to_save=["embed_tokens", "lm_head"],
        ),
        says=[VOCABULARY],
    ),
    CommandCase(
        id="S5 an adapter that is a pickle",
        argv=["adapters", "push", "{folder}/a", "--name", "case"],
        prepare=as_a_pickle,
        says=["no adapter_model.safetensors"],
    ),
    CommandCase(
        id="S8 a chat template of its own",
        argv=PUSH,
        prepare=with_a_template,
        code=0,
        says=["note: chats with it are rendered by the chat template that came with it"],
    ),
    CommandCase(
        id="S8 a chat template of its own that does not parse",
        argv=PUSH,
        prepare=with_a_broken_template,
        says=["chat_template.jinja", "line 1", "mend the template"],
    ),
    CommandCase(id="4 gc", argv=["adapters", "gc"], code=0, says=["deleted 0 files and folders", "last hour stays"]),
    CommandCase(id="6 named as the base", argv=[*PUSH[:4], BASE], prepare=adapter, says=["is the name of a base"]),
]


def a_base_and_an_adapter_of_one_name(folder: Path) -> None:
    shutil.copytree(shipped_bases()[BASE], folder / "dates")
    (folder / "data").mkdir()
    catalog = Catalog.open(f"sqlite:///{folder}/data/catalog.db")
    register(catalog, "a", adapter="dates")
    catalog.close()


def test_6_a_server_does_not_start_on_a_base_that_is_called_as_an_adapter_is(commands: Commands) -> None:
    serve = ["serve", "--base", "{folder}/dates", "--data-dir", "{folder}/data", "--grpc-port", "0", "--http-port", "0"]
    says = ["'dates' is the name of an adapter", "graft adapters delete dates"]
    commands.check(CommandCase(id="6", argv=serve, prepare=a_base_and_an_adapter_of_one_name, says=says))


@pytest.fixture(autouse=True)
def nothing_is_left(client: Client) -> None:
    for one in client.adapters():
        if one.adapter == "case":
            client.delete_adapter("case", force=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_commands(case: CommandCase, commands: Commands, server: Server, client: Client) -> None:
    outcome = commands.check(replace(case, argv=[*case.argv, "--server", server.grpc]))
    assert ("case" in {one.adapter for one in client.adapters()}) == (case.code == 0 and case.argv[1] == "push")
    if VOCABULARY in case.says:
        assert outcome.said.index(VOCABULARY) < outcome.said.index("modules_to_save"), "what matters comes first"


def test_s11_an_adapter_is_deleted_by_one_command(commands: Commands, server: Server, client: Client) -> None:
    adapter(commands.folder)
    client.push_adapter(commands.folder / "a", name="case", alias="stable")
    delete = ["adapters", "delete", "case", "--server", server.grpc]
    asked = CommandCase(
        id="S11", argv=delete, says=["case would be deleted with its version and its alias stable", "--yes"]
    )
    commands.check(asked)
    commands.check(replace(asked, argv=[*delete, "--yes"], code=0, says=["deleted case with its version"]))
    commands.check(replace(asked, argv=delete, says=["there is no adapter 'case'"]))
