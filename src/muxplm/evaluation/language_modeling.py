"""How well a primed or pre-trained model does its own task on the validation blocks."""

import torch
from torch.utils.data import DataLoader

from muxplm.precision import autocast

BLOCKS = 1280  # a number that every N of the paper divides
SEED = 0


@torch.inference_mode()
def evaluate_blocks(model, objective, blocks, collate, instances: int, precision) -> dict:
    """Shares in 0..1: retrieval or masked-token accuracy; for rtd precision-recall F1 as well."""
    model.eval()
    torch.manual_seed(SEED)  # the same tokens are masked for every model
    chosen = torch.randperm(len(blocks))[:BLOCKS].tolist()
    loader = DataLoader(
        torch.utils.data.Subset(blocks, chosen), batch_size=16 * instances, collate_fn=collate
    )
    hits = total = both = claimed = real = 0
    for batch in loader:
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
        kept = labels != -100
        hits += (predicted == labels)[kept].sum().item()
        total += kept.sum().item()
    scores = {"accuracy": hits / total}
    return scores | ({"f1": 2 * both / max(1, claimed + real)} if objective == "rtd" else {})
