"""How well a primed or pre-trained model does its own task on the validation blocks."""

from functools import partial

import torch

from muxplm.data.collation import IGNORED, uniform
from muxplm.grouping import shuffled
from muxplm.precision import autocast

BLOCKS = 1280  # a number that every N of the paper divides
SEED = 0


@torch.inference_mode()
def evaluate_blocks(model, objective, blocks, collate, instances: int, precision) -> dict:
    """Shares in 0..1: retrieval or masked-token accuracy; for rtd precision-recall F1 as well.

    blocks: an array (number, L). Of every model, whatever its N, the same tokens are corrupted.
    """
    model.eval()
    chosen, size = shuffled(len(blocks), SEED)[:BLOCKS].numpy(), 16 * instances
    hits = total = both = claimed = real = 0
    for first in range(0, len(chosen), size):
        rows = blocks[chosen[first : first + size]]
        batch = collate(rows, partial(uniform, (SEED, SEED), first, len(rows)))
        labels = batch["labels"].to(model.device)
        with autocast(precision, model.device.type):
            logits = model(input_ids=batch["input_ids"].to(model.device)).logits  # (R, L[, V])
        if objective == "rtd":
            predicted = (logits > 0).long()
            both += (predicted & labels).sum().item()
            claimed += predicted.sum().item()
            real += labels.sum().item()
        else:
            predicted = logits.argmax(dim=-1)
        kept = labels != IGNORED
        hits += (predicted == labels)[kept].sum().item()
        total += kept.sum().item()
    scores = {"accuracy": hits / total}
    return scores | ({"f1": 2 * both / max(1, claimed + real)} if objective == "rtd" else {})
