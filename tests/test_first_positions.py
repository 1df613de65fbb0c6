"""A last layer that computes what a classifier of rows reads: the same answers and gradients."""

import pytest
import torch
from conftest import build, make_config
from transformers import AutoModelForSequenceClassification

from muxplm.models import first_positions
from muxplm.models.encoding import layers_of
from muxplm.models.first_positions import read_first_positions
from muxplm.models.modeling import MuxForSequenceClassification

MULTIPLEXED = [
    {"encoder": encoder, "demultiplexer": demultiplexer, "dialect": dialect}
    for encoder in ("bert", "electra", "roberta")
    for demultiplexer in ("rsa", "prefix")
    for dialect in ("paper", "released")
] + [{"multiplexer": "contextual"}]


def plain(encoder):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(make_config(encoder).encoder).eval()


def answers(model, ids, mask):
    """Logits, with and without padding, and each parameter's gradient."""
    model.zero_grad()
    output = model(ids, mask, labels=torch.arange(len(ids)) % 2)
    output.loss.backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return {"padded": output.logits, "whole": model(ids).logits, **gradients}


def states(model, ids, mask):
    """Of the positions that the last layer puts out."""
    found = []
    last = layers_of(getattr(model.base_model, "encoder", model.base_model))[-1]
    handle = last.register_forward_hook(lambda module, given, output: found.append(output))
    model(ids, mask)
    handle.remove()
    return found[0].shape[1]


def check(model, ids, mask, positions):
    before, length = answers(model, ids, mask), states(model, ids, mask)
    read_first_positions(model)
    after = answers(model, ids, mask)
    assert states(model, ids, mask) == positions < length
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("changes", MULTIPLEXED, ids=lambda changes: "-".join(changes.values()))
def test_multiplexed_models_answer_as_before(changes, ids, mask):
    model = build(MuxForSequenceClassification, n=3, **changes)
    check(
        model,
        ids,
        mask,
        positions=max(1, model.config.prefix_length, 4 * (model.config.prefix_length > 0)),
    )


@pytest.mark.parametrize("encoder", ["bert", "electra", "roberta"])
def test_plain_models_answer_as_before(encoder, ids, mask):
    check(plain(encoder), ids, mask, positions=1)


def test_what_cannot_be_read_so_is_left(ids, mask):
    """ModernBERT's layers are not known; a model that reads tokens back needs every position."""
    reading = build(MuxForSequenceClassification, retrieval_weight=0.1)
    for model in (plain("modernbert"), reading):
        length = states(model, ids, mask)
        read_first_positions(model)
        assert states(model, ids, mask) == length


@pytest.mark.parametrize("encoder", ["bert", "electra", "roberta"])
def test_attention_of_two_sequences_has_the_same_parameters(encoder):
    """Else the layer's own weights could not be read by it."""
    layer = layers_of(plain(encoder).base_model.encoder)[-1]
    own, other = (
        layer.attention.self,
        first_positions.ATTENTION[type(layer)](make_config(encoder).encoder),
    )
    shapes = [{k: p.shape for k, p in module.named_parameters()} for module in (own, other)]
    assert shapes[0] == shapes[1]
