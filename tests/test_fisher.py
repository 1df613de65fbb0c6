"""Masks by the Fisher information, against gradients by differences and searches through all masks."""

from itertools import combinations

import pytest
import torch
from test_pruned import dense, masked, outputs

from muxplm.models.masks import Masked, Masks, encoder_of, shrink, sparsity
from muxplm.pruning.fisher import fisher_masks, mask_gradients, rearranged, search

CONFIG = dense(0).config


def batches(ids, mask, labels):
    return [
        {
            "input_ids": ids[i : i + 2],
            "attention_mask": mask[i : i + 2],
            "labels": labels[i : i + 2],
        }
        for i in (0, 2, 4)
    ]


@pytest.mark.parametrize(("n", "head"), [(0, "sequence"), (2, "sequence"), (2, "token")])
def test_gradients_are_those_by_differences(n, head, ids, mask):
    model = dense(n, head).double()
    labels = torch.arange(7) % 3 if head == "sequence" else ids % 3
    samples = batches(ids, mask, labels)
    found = mask_gradients(model, samples, "fp32")
    assert [tuple(f.shape) for f in found] == [(3, 3, 2), (3, 3, 8)]

    def loss(kind, place, value, sample):
        masks = Masks.ones(CONFIG, dtype=torch.float64)
        getattr(masks, kind)[place] = value
        hooks = Masked(model, masks)
        with torch.no_grad():
            value = model(**samples[sample]).loss
        hooks.remove()
        return value

    for kind, gradients in zip(("heads", "intermediates"), found, strict=True):
        for place in ((0, 1), (2, 0)):
            for sample in (0, 2):
                ends = [loss(kind, place, 1 + step, sample) for step in (5e-3, -5e-3)]
                expected = ((ends[0] - ends[1]) / 1e-2).item()
                assert gradients[(sample, *place)].item() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("target", [0.0, 0.2, 0.5, 0.6, 0.9])
def test_the_search_finds_the_best_of_all_masks(target):
    """Of two heads and three dimensions in a layer: all 2^10 masks of two layers are tried."""
    config = type(CONFIG)(num_hidden_layers=2, num_attention_heads=2, hidden_size=16)
    config.intermediate_size = 3
    random = torch.Generator().manual_seed(5)
    heads, dimensions = (torch.rand(2, units, generator=random) for units in (2, 3))
    attention, feed_forward = 4 * 16 * 17, 2 * 16 * 3 + 3 + 16
    costs = torch.tensor([attention / 2] * 4 + [feed_forward / 3] * 6)
    worth = torch.cat([heads.flatten(), dimensions.flatten()])
    budget, best = (1 - target) * 2 * (attention + feed_forward) + 0.5, 0.0
    for count in range(11):
        for kept in map(list, combinations(range(10), count)):
            if costs[kept].sum() <= budget:
                best = max(best, worth[kept].sum().item())
    masks = search(heads, dimensions, target, config)
    found = (masks.heads * heads).sum() + (masks.intermediates * dimensions).sum()
    assert found.item() == pytest.approx(best, abs=1e-6)


def test_rearranging_never_costs_more_and_may_cost_less():
    """By the sum of squares of the gradients left out, over the samples; the number out stays."""
    gained = []
    for seed in range(20):
        gradients = torch.randn(6, 8, generator=torch.Generator().manual_seed(seed))
        mask = torch.ones(8)
        mask[gradients.square().sum(0).argsort()[:5]] = 0
        found = rearranged(mask, gradients)
        assert found.sum() == 3
        lost = [gradients[:, m == 0].sum(1).square().sum().item() for m in (mask, found)]
        gained.append(lost[0] - lost[1])
    assert min(gained) > -1e-4 and max(gained) > 1
    assert rearranged(torch.ones(8), gradients).all()


@pytest.mark.parametrize(("n", "target"), [(0, 0.5), (2, 0.3), (2, 0.7)])
def test_a_pruned_model_has_the_sparsity_and_the_answers(n, target, ids, mask):
    model = dense(n)
    masks = fisher_masks(model, batches(ids, mask, torch.arange(7) % 3), target, "fp32")
    # Within one intermediate dimension of 33 weights, and the biases that parts share.
    config = encoder_of(model).config
    assert sparsity(masks, config) == pytest.approx(target, abs=(33 + 6 * 16) / (3 * 1368))
    found = zip(
        outputs(shrink(model, masks), ids, mask), masked(model, masks, ids, mask), strict=True
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in found)
    assert not model.training


def test_what_decides_nothing_goes_first(ids, mask):
    """Units whose way out is zero have no gradient, and are what is pruned."""
    model = dense(2)
    dead = torch.zeros(3, 8, dtype=torch.bool)
    dead[:, [1, 4, 6]] = True
    for layer, columns in zip(encoder_of(model).encoder.layer, dead, strict=True):
        layer.output.dense.weight.data[:, columns] = 0
    target = 3 * 3 * 280 / 8 / (3 * 1368)
    masks = fisher_masks(model, batches(ids, mask, torch.arange(7) % 3), target, "fp32")
    assert torch.equal(masks.intermediates == 0, dead) and masks.heads.all()
