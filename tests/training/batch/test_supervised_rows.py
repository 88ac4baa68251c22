import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from graft.training.batch.encoding import RowEncoder
from graft.training.batch.packing import Encoded
from graft.training.batch.rows.row import Completion, Conversation, Row, Turn
from graft.training.batch.supervised_rows import SupervisedRows
from graft.training.objective.causal import CausalObjective

IM_END = 4


def encode_row(row: Row, tokenizer: PreTrainedTokenizerFast, *, assistant_only: bool = True) -> Encoded:
    (encoded,) = RowEncoder(tokenizer, stop_ids=[IM_END], assistant_only=assistant_only).examples(row)
    return encoded


def learned_text(row: Encoded, tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.decode([token for token, mask in zip(row.input_ids, row.supervised, strict=True) if mask])


def test_a_completion_learns_itself_and_the_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode_row(Completion(prompt="12+3=", completion="15"), tokenizer)
    assert tokenizer.decode(row.input_ids) == "12+3=15<|eos|>"
    assert learned_text(row, tokenizer) == "15<|eos|>"


def test_a_conversation_learns_its_answers_only(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [("system", "Be brief."), ("user", "a?"), ("assistant", "b "), ("user", "c?"), ("assistant", "d")]
    row = Conversation(turns=tuple(Turn(role=r, content=c, is_learned=r == "assistant") for r, c in turns))
    encoded = encode_row(row, tokenizer)
    assert learned_text(encoded, tokenizer) == "b <|im_end|>d<|im_end|>"
    rendered = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in turns], tokenize=False)
    assert tokenizer.decode(encoded.input_ids) == rendered.rstrip("\n")
    marked = tokenizer.apply_chat_template(
        [{"role": r, "content": c} for r, c in turns], return_dict=True, return_assistant_tokens_mask=True
    )
    assert [int(mask) for mask in encoded.supervised] == marked["assistant_masks"][: len(encoded.supervised)]
    assert all(encode_row(row, tokenizer, assistant_only=False).supervised)


def test_an_answer_of_weight_zero_is_read_but_not_learned(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [("user", "a?", False), ("assistant", "wrong", False), ("user", "c?", False), ("assistant", "d", True)]
    row = Conversation(turns=tuple(Turn(role=r, content=c, is_learned=learned) for r, c, learned in turns))
    encoded = encode_row(row, tokenizer)
    assert "wrong" in tokenizer.decode(encoded.input_ids)
    assert learned_text(encoded, tokenizer) == "d<|im_end|>"


def data(rows: list[Encoded], *, packing: bool, rows_per_batch: int, batches_per_step: int = 1) -> SupervisedRows:
    return SupervisedRows(
        rows=rows, rows_per_batch=rows_per_batch, batches_per_step=batches_per_step, packing=packing, pad_id=0, seed=0
    )


def test_packing_and_accumulation_do_not_change_the_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = [encode_row(Completion(prompt="x" * (1 + 5 * i), completion="y" * (9 - i)), tokenizer) for i in range(8)]
    means = []
    for packing, rows_per_batch, batches_per_step in ((True, 8, 1), (False, 8, 1), (True, 2, 4), (False, 1, 8)):
        made = data(rows, packing=packing, rows_per_batch=rows_per_batch, batches_per_step=batches_per_step)
        batches = made.batches(0)
        num_tokens = sum(batch.num_labels for batch in batches)
        assert num_tokens == sum(sum(row.supervised) for row in rows)
        means.append(sum(CausalObjective().sums(model, batch)["tokens"] for batch in batches) / num_tokens)
    torch.testing.assert_close(torch.stack(means), means[0].expand(4), rtol=1e-5, atol=1e-5)
    assert data(rows, packing=True, rows_per_batch=8).batches(0)[0].input_ids_BL.shape[0] < 8


def test_the_loss_is_hugging_faces_on_masked_labels(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    row = encode_row(Completion(prompt="abc -> ", completion="cba"), tokenizer)
    made = data([row], packing=True, rows_per_batch=1)
    (batch,) = made.batches(0)
    total = CausalObjective().sums(model, batch)["tokens"]
    ids = torch.tensor([row.input_ids])
    labels = torch.where(torch.tensor([row.supervised]), ids, -100)
    torch.testing.assert_close(total / batch.num_labels, model(input_ids=ids, labels=labels).loss, rtol=1e-5, atol=1e-5)


def test_every_epoch_sees_every_row_once_in_another_order(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [encode_row(Completion(prompt=str(i), completion="y"), tokenizer) for i in range(10)]
    made = data(rows, packing=False, rows_per_batch=4)
    assert made.steps_per_epoch == 3
    epochs = [
        [int(row[0]) for step in range(3) for batch in made.batches(3 * epoch + step) for row in batch.input_ids_BL]
        for epoch in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(row.input_ids[0] for row in rows)
    assert epochs[0] != epochs[1]
