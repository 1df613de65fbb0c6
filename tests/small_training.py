"""Trainings of a few steps for every objective, N = 1 and more; as a script, in several processes.

    python -m torch.distributed.run --standalone --nproc-per-node 2 tests/small_training.py FOLDER

writes the weights of each of CASES after training, by the case's name.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from conftest import make_config
from safetensors.torch import save_file
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from muxplm.data.collation import MaskTokens, PadRows, ReplaceTokens, collate_retrieval
from muxplm.models.modeling import MuxForTokenRetrieval
from muxplm.settings import Training
from muxplm.training.loop import train

KINDS = [
    *(("retrieval", 5), ("mlm", 1), ("mlm", 5), ("rtd", 1), ("rtd", 5)),
    *(("classification", 1), ("classification", 5), ("tagging", 1), ("tagging", 5)),
]
CASES = [(objective, n, accumulation) for objective, n in KINDS for accumulation in (1, 2)]
CLASSES = {
    "mlm": AutoModelForMaskedLM,
    "rtd": AutoModelForPreTraining,
    "classification": AutoModelForSequenceClassification,
    "tagging": AutoModelForTokenClassification,
}
STEPS, ROWS = 6, 8


class Words:
    """What the collators ask of a tokenizer."""

    all_special_ids, mask_token_id = [0, 1, 2, 3, 4], 4

    def __len__(self):
        return 50


def make_model(objective, n, dropout=0.0):
    """transformers' own class at N = 1; at more, retrieval has a part in the loss."""
    encoder = "electra" if objective == "rtd" else "bert"
    weight = 0.0 if objective == "retrieval" else 0.3
    config = make_config(
        encoder, n=n, num_labels=4, retrieval_weight=weight, classifier_dropout=dropout
    )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(config.encoder, name, dropout)
    if n == 1:
        config = config.encoder
        config.num_labels = 4
    torch.manual_seed(0)
    if objective == "retrieval":
        return MuxForTokenRetrieval(config)
    return CLASSES[objective].from_config(config)


def make_data(objective):
    """(data set, collator): blocks of 12, or rows of 3 to 12 tokens, and 20 rows held out."""
    random = np.random.default_rng(0)
    blocks = random.integers(5, 50, (60, 12)).astype(np.uint16)
    blocks[:, 0], blocks[:, -1] = 2, 3
    if objective in ("retrieval", "mlm", "rtd"):
        collators = {"mlm": MaskTokens, "rtd": ReplaceTokens}
        made = objective in collators and collators[objective](Words(), 0.3)
        return blocks, made or collate_retrieval
    rows = [block[: random.integers(3, 13)].tolist() for block in blocks]
    tags = [[-100, *random.integers(4, size=len(row) - 2).tolist(), -100] for row in rows]
    labels = tags if objective == "tagging" else random.integers(4, size=60).tolist()
    found = [{"input_ids": row, "labels": label} for row, label in zip(rows, labels, strict=True)]
    return found, PadRows(0)


def run(
    objective, n, scratch, dropout=0.0, precision="fp32", steps=STEPS, validation=True, **changes
):
    """Trains; returns the parameters and both logs."""
    model, (data, collate) = make_model(objective, n, dropout), make_data(objective)
    # With a smaller epsilon Adam makes whole steps of gradients that are zero but for rounding.
    settings = {"rows": ROWS, "learning_rate": 0.01, "adam_epsilon": 1e-4, "save_every": 2}
    training = Training(**{"steps": steps, **settings, **changes})
    log, validation_log, _ = train(
        model,
        data[20:],
        collate,
        training,
        steps=steps,
        instances=n,
        seed=3,
        precision=precision,
        scratch=scratch,
        title=objective,
        validation=data[:20] if validation else None,
    )
    return dict(model.named_parameters()), log, validation_log


def main(folder):
    for objective, n, accumulation in CASES:
        scratch = Path(folder) / "scratch" / f"{objective}-{n}-{accumulation}"
        weights, *_ = run(objective, n, scratch, accumulation=accumulation, save_every=100)
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            save_file(
                {name: weight.detach() for name, weight in weights.items()},
                Path(folder) / f"{objective}-{n}-{accumulation}.safetensors",
            )


if __name__ == "__main__":
    main(sys.argv[1])
