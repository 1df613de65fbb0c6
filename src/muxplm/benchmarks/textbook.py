"""The formulas of a forward pass as they are written, and what each step away from them gains.

All compute the same logits. Shapes: B groups, N instances, L tokens, H wide.
"""

import copy
from functools import partial
from statistics import median

import torch
from torch import nn

from muxplm.benchmarks.shapes import base_config
from muxplm.evaluation.throughput import speedup, time_interleaved
from muxplm.models.build import new_model
from muxplm.models.first_positions import read_first_positions
from muxplm.precision import autocast, cast_weights

KINDS = {"sequence": "classification", "token": "tagging"}


class Textbook(nn.Module):
    """MUX-BERT by equations (1), (2) and (6): every instance's MLP over [key ; state], everywhere.

    It has the weights of `model`, multiplexed by fixed keys and without a prefix. Whole groups only.
    """

    def __init__(self, model):
        super().__init__()
        self.model, demultiplexer = model, model.model.demultiplexer
        halves = demultiplexer.from_key, demultiplexer.from_hidden
        width = model.config.hidden_size
        self.first = nn.Linear(
            2 * width, width
        )  # over [key ; state], whose halves ours keeps apart
        self.first.weight = nn.Parameter(torch.cat([half.weight for half in halves], dim=1))
        self.first.bias = demultiplexer.from_hidden.bias
        self.of_sequences = model.of_sequences

    def forward(self, ids):
        """(B*N, L) -> logits (B*N, labels) or (B*N, L, labels)."""
        body, n = self.model.model, self.model.config.num_instances
        words, keys = body.get_input_embeddings(), body.multiplexer.keys
        groups = ids.unflatten(0, (-1, n))  # (B*N, L) -> (B, N, L)
        mixed = sum(keys[i] * words(groups[:, i]) for i in range(n)) / n**0.5  # (B, L, H)
        hidden = body.encoder(inputs_embeds=mixed).last_hidden_state  # (B, L, H)
        states = torch.stack(
            [self.demultiplexed(key, hidden) for key in body.demultiplexer.keys], 1
        )
        states = states.flatten(0, 1)  # (B, N, L, H) -> (B*N, L, H)
        return self.model.classifier(states[:, 0] if self.of_sequences else states)

    def demultiplexed(self, key, hidden):
        """One instance's states: key (H,), hidden (B, L, H) -> (B, L, H)."""
        parts = self.model.model.demultiplexer
        x = torch.cat([key.expand_as(hidden), hidden], dim=-1)  # (B, L, 2H)
        return parts.refine(parts.activation(self.first(x)))


class FirstLayerSplit(Textbook):
    """The MLP's first layer as a sum of two: keys once an instance, states once a position."""

    def forward(self, ids):
        encoded = self.model.model.encode(ids)
        states = self.model.demultiplex(encoded)  # (B*N, L, H)
        return self.model.classifier(states[:, 0] if self.of_sequences else states)


def versions(model, precision: str) -> dict:
    """By what is new in each: from the formulas to what is served, in order."""
    found = {
        "the formulas": Textbook(model),
        "demultiplexer's first layer split": FirstLayerSplit(model),
    }
    if model.of_sequences:
        found["one position demultiplexed"] = logits_of(model)
        model = copy.deepcopy(model)
        read_first_positions(model)
        found["last layer where it is read"] = logits_of(model)
    if precision == "bf16":
        found["weights cast beforehand"] = logits_of(cast_weights(copy.deepcopy(model), precision))
    return found


def logits_of(model):
    return lambda ids: model(ids).logits


def time_versions(task, precision, n, rounds, batch, length, base, device) -> list[dict]:
    """What each version takes for `batch` instances, and how many times faster than the one before."""
    torch.manual_seed(0)
    model = new_model(KINDS[task], base_config(n, base)).eval().to(device)
    ids = torch.randint(base["vocab_size"], (batch // n * n, length), device=device)
    with torch.inference_mode(), autocast(precision, device.type):
        runs = {name: partial(run, ids) for name, run in versions(model, precision).items()}
        seconds = time_interleaved(runs, rounds, 1)
    names, shared = list(runs), {"task": task, "precision": precision, "n": n}
    return [
        shared
        | {"version": name, "seconds": median(seconds[name])}
        | {"gain": speedup(seconds, name, before), "in_all": speedup(seconds, name, names[0])}
        for before, name in zip([names[0], *names], names, strict=False)
    ]
