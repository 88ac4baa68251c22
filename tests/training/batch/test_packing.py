import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from graft.training.batch.packing import IGNORED, Encoded, PackedBatch, batch_of_rows, pack
from graft.training.objective.causal import CausalObjective
from graft.training.rootstock.corpus.mixture import ROOTSTOCK
from graft.training.rootstock.corpus.packed_mixture import PackedMixture


def total(model: LlamaForCausalLM, batch: PackedBatch) -> Tensor:
    return CausalObjective().sums(model, batch)["tokens"]


def document(size: int, first: int = 10) -> Encoded:
    return Encoded(input_ids=list(range(first, first + size)), supervised=[True] * size)


@given(st.lists(st.integers(1, 30), max_size=40))
def test_packing_keeps_documents_whole_and_within_their_row(sizes: list[int]) -> None:
    batch = pack([document(size) for size in sizes], num_rows=4, length=24, pad_id=0)
    found = []
    for ids, numbers in zip(batch.input_ids_BL, batch.document_BL, strict=True):
        for number in range(1, int(numbers.max()) + 1):
            inside = ids[numbers == number].tolist()
            assert inside == list(range(10, 10 + len(inside)))
            found.append(len(inside))
    remaining = list(sizes)
    for size in found:
        remaining.remove(size)
    assert batch.num_labels == sum(size - 1 for size in found)
    assert (batch.input_ids_BL[batch.document_BL == 0] == 0).all()
    if sizes and max(sizes) <= 24 and sum(sizes) <= 24:
        assert not remaining


def test_labels_positions_and_mask_of_two_documents() -> None:
    batch = batch_of_rows([[document(3), document(2, first=50)]], length=6, pad_id=0)
    assert batch.input_ids_BL.tolist() == [[10, 11, 12, 50, 51, 0]]
    assert batch.labels_BL.tolist() == [[11, 12, IGNORED, 51, IGNORED, IGNORED]]
    assert batch.position_ids_BL.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert batch.attention_mask()[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def test_the_loss_of_one_document_is_hugging_faces(model: LlamaForCausalLM) -> None:
    one = document(20)
    batch = batch_of_rows([[one]], length=32, pad_id=0)
    ids = torch.tensor([one.input_ids])
    expected = model(input_ids=ids, labels=ids).loss
    assert batch.num_labels == 19 and batch.num_tokens == 20
    torch.testing.assert_close(total(model, batch) / 19, expected, rtol=1e-5, atol=1e-5)


def test_packed_documents_do_not_see_each_other(model: LlamaForCausalLM) -> None:
    parts = [document(7), document(12, first=100), document(5, first=200)]
    packed = total(model, batch_of_rows([parts], length=32, pad_id=0))
    alone = [total(model, batch_of_rows([[part]], length=32, pad_id=0)) for part in parts]
    torch.testing.assert_close(packed, torch.stack(alone).sum(), rtol=1e-5, atol=1e-4)


def test_a_batch_is_nearly_full_and_depends_on_the_step_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    data = PackedMixture(mixture=ROOTSTOCK, tokenizer=tokenizer, num_rows=8, length=256, seed=3)
    (first,), (again,), (other,) = data.batches(5), data.batches(5), data.batches(6)
    assert torch.equal(first.input_ids_BL, again.input_ids_BL)
    assert not torch.equal(first.input_ids_BL, other.input_ids_BL)
    assert (first.document_BL != 0).float().mean() > 0.85
