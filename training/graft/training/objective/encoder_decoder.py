"""What encoder-decoders have in common."""

from collections.abc import Mapping

from torch import Tensor, nn

from graft.training.batch.batch import Batch
from graft.training.objective.head import labelled


def sequence_to_sequence(model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
    """What an encoder-decoder writes, each token from those before it."""
    labels_BT = batch.labels["tokens"]
    shifted_BT = model.prepare_decoder_input_ids_from_labels(labels_BT)
    return {"tokens": labelled(model, labels_BT, **batch.inputs, decoder_input_ids=shifted_BT).logits}
