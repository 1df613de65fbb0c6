"""Masks without training: Kwon et al., A Fast Post-Training Pruning Framework (arXiv 2204.09656).

Their first two steps, the search for masks (section 4.1) and their rearrangement (section 4.2). The
budget is in parameters, not in operations, so that a target means the same as CoFi's. Their third step,
which gives the masks that are left other values than 1, is left out.

Shapes: S samples, `layers` layers of A heads and I intermediate dimensions, U units of either kind.
"""

import torch

from muxplm.models.masks import Masked, Masks, encoder_of, part_sizes
from muxplm.precision import training_math


def fisher_masks(model, batches, target: float, precision: str) -> Masks:
    """The masks, of zeros and ones, that cost a fine-tuned model least by the Fisher information.

    batches: of rows with their labels; each is one sample. target: the sparsity.
    """
    config = encoder_of(model).config
    heads, intermediates = mask_gradients(model, batches, precision)
    masks = search(heads.square().sum(0), intermediates.square().sum(0), target, config)
    for units, gradients in ((masks.heads, heads), (masks.intermediates, intermediates)):
        for number, mask in enumerate(units):
            units[number] = rearranged(mask, gradients[:, number])
    return masks


def mask_gradients(model, batches, precision: str):
    """The loss's gradient by each mask at 1: (S, layers, A) and (S, layers, I), on the CPU."""
    masks = Masks.ones(encoder_of(model).config, device=model.device)
    units = [masks.heads.requires_grad_(), masks.intermediates.requires_grad_()]
    hooks, found, training = Masked(model, masks), [], model.training
    model.eval()
    for batch in batches:
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        with training_math(precision, model.device.type, batch["input_ids"].shape[1]):
            loss = model(**batch).loss
        found.append([gradient.cpu() for gradient in torch.autograd.grad(loss, units)])
    hooks.remove()
    model.train(training)
    return [torch.stack(of_unit) for of_unit in zip(*found, strict=True)]


def search(heads, intermediates, target: float, config) -> Masks:
    """Masks of the least Fisher information lost among those that keep 1 - target of the parameters.

    heads (layers, A), intermediates (layers, I): the information of each. For each number of heads kept,
    the best of them, and as many intermediate dimensions as the rest of the budget pays (Algorithm 1).
    """
    attention, feed_forward = part_sizes(config)
    of_head, of_dimension = attention / heads.shape[1], feed_forward / intermediates.shape[1]
    budget = (1 - target) * config.num_hidden_layers * (attention + feed_forward) + 0.5  # rounding
    # What is kept of the best k of either: [k].
    gains = [
        torch.cat([torch.zeros(1), unit.flatten().sort(descending=True).values.cumsum(0)])
        for unit in (heads, intermediates)
    ]
    kept = torch.arange(min(heads.numel(), int(budget / of_head)) + 1)
    paid = ((budget - kept * of_head) / of_dimension).long().clamp(max=intermediates.numel())
    best = int((gains[0][kept] + gains[1][paid]).argmax())
    masks = Masks.ones(config)
    for mask, information, count in (
        (masks.heads, heads, best),
        (masks.intermediates, intermediates, int(paid[best])),
    ):
        order = information.flatten().argsort(descending=True)
        mask.view(-1)[order[count:]] = 0
    return masks


def rearranged(mask, gradients):
    """As many units of one layer, (U,), chosen so that those left out matter least together.

    gradients (S, U). Units are taken up in the order of what each matters alone; of those that are out,
    with the new one, the one comes back without which the sum of the others' gradients is the smallest.
    """
    out = int((mask == 0).sum())
    if out in (0, len(mask)):
        return mask
    order = gradients.square().sum(0).argsort().tolist()
    left, total = order[:out], gradients[:, order[:out]].sum(1)  # (S,)
    for unit in order[out:]:
        left.append(unit)
        total = total + gradients[:, unit]
        without = (total[:, None] - gradients[:, left]).square().sum(0)  # (out + 1,)
        back = left.pop(int(without.argmin()))
        total = total - gradients[:, back]
    found = torch.ones_like(mask)
    found[left] = 0
    return found
