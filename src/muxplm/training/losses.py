"""The loss of a part of a batch, weighted so that the parts add up to the loss of the whole batch."""

from transformers import BertForMaskedLM

from muxplm.models.heads import mean_cross_entropy
from muxplm.models.modeling import IGNORED


def part_of_loss(model, batch, shares):
    """The mean losses of one part, each times its share of what the whole batch's is a mean over.

    shares: of the labels, and of the tokens that are read back where the model retrieves beside its
    task. Only the loss is handed on, so that the logits' memory is free in the backward pass.
    """
    output = _masked_lm(model, **batch) if isinstance(model, BertForMaskedLM) else model(**batch)
    if output.get("retrieval_loss") is None:
        return shares[0] * output["loss"]
    weight = model.config.retrieval_weight
    task, retrieval = shares[0] * output.task_loss, shares[1] * output.retrieval_loss
    return (1 - weight) * task + weight * retrieval


def _masked_lm(model, input_ids, labels):
    """BertForMaskedLM that scores the labelled positions alone, as the multiplexed models do.

    The loss is the same; six in seven of the vocabulary-sized logits are never made. ModernBERT has
    this built in (sparse_prediction).
    """
    hidden = model.bert(input_ids).last_hidden_state  # (R, L, H)
    masked, head = labels != IGNORED, model.cls.predictions  # (R, L)
    states = head.transform(hidden[masked])  # (M, H)
    return {"loss": mean_cross_entropy(states, head.decoder.weight, head.bias, labels[masked])}
