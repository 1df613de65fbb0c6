"""A student that learns a teacher's predictions and its layers: CoFi (arXiv 2204.00408), section 3.2.

Shapes: R rows in B groups (B = R for a plain model), L positions of the encoder, H wide, C classes.
"""

import torch
from torch import nn
from torch.nn import functional as F

from muxplm.models.configuration import MuxConfig
from muxplm.models.modeling import IGNORED

TEMPERATURE = 2.0  # of the predictions
QUARTERS = 4  # of the teacher's depth: the layer that ends each is taught


class Distilled(nn.Module):
    """What the training loop trains: `student`, and a matrix that its layers are compared through.

    The teacher is neither trained nor saved. kind: of the task. The loss is
    (1 - layer_weight) * predictions + layer_weight * layers; labels count only in saying where a
    tagger's are. Embeddings stay as they are, as in CoFi's code.
    """

    def __init__(self, student, teacher, kind: str, layer_weight: float):
        super().__init__()
        self.student, self.kind, self.layer_weight = student, kind, layer_weight
        self.unregistered = [teacher.eval()]
        hidden = student.config.hidden_size
        self.match = nn.Linear(hidden, hidden)
        nn.init.eye_(self.match.weight)
        nn.init.zeros_(self.match.bias)
        for name, parameter in student.named_parameters():
            if ".embeddings." in name:
                parameter.requires_grad_(False)

    @property
    def config(self):
        return self.student.config

    def existing(self) -> torch.Tensor:
        """(layers,): whether a layer of the student does anything."""
        config = self.student.config
        if isinstance(config, MuxConfig):
            config = config.encoder
        sizes = zip(config.heads, config.intermediates, strict=True)
        return torch.tensor([heads + between > 0 for heads, between in sizes])

    def forward(self, input_ids, attention_mask, labels):
        """(R, L) ids -> {"loss"}."""
        teacher = self.unregistered[0].to(input_ids.device)  # it moves once
        learnt = self.student(input_ids, attention_mask, output_hidden_states=True)
        with torch.no_grad():
            taught = teacher(input_ids, attention_mask, output_hidden_states=True)
        predictions = prediction_loss(learnt.logits, taught.logits, self.kind, labels)
        layers = self.layer_loss(learnt.hidden_states[1:], taught.hidden_states[1:])
        return {"loss": (1 - self.layer_weight) * predictions + self.layer_weight * layers}

    def layer_loss(self, learnt, taught):
        """Sum over the taught layers of the mean square of what differs, padding included.

        Two sequences of (B, L, H). Which layer of the student learns which is chosen anew each time.
        """
        there = self.existing().tolist()
        compared = {i: self.match(states) for i, states in enumerate(learnt) if there[i]}
        targets = [taught[number] for number in taught_layers(len(taught))]
        distances = [
            {i: F.mse_loss(states.float(), target.float()) for i, states in compared.items()}
            for target in targets
        ]
        if not compared:
            return learnt[-1].new_zeros(())
        pairs = zip(distances, matched(distances), strict=True)
        return torch.stack([of_target[i] for of_target, i in pairs]).sum()


def taught_layers(layers: int) -> list[int]:
    """The last layer of each quarter, counted from 0: 2, 5, 8, 11 of twelve."""
    return sorted({-(-layers * quarter // QUARTERS) - 1 for quarter in range(1, QUARTERS + 1)})


def matched(distances: list[dict]) -> list[int]:
    """For each taught layer the student's layer that learns it.

    distances: by taught layer, of each layer of the student that is left. From the last taught layer
    down, the nearest of the layers below the one chosen before (CoFi's version 4); where none is below,
    that one once more.
    """
    chosen, last = [], None
    for of_target in reversed(distances):
        below = [i for i in of_target if last is None or i < last] or [last]
        last = min(below, key=lambda i: of_target[i].item())
        chosen.append(last)
    return chosen[::-1]


def prediction_loss(learnt, taught, kind: str, labels):
    """T^2 KL(teacher || student), the mean over rows, or over a tagger's labelled positions.

    logits (R, C), or (R, L, C) with labels (R, L). Of a regression, whose softmax would be 1, the mean
    square of what differs.
    """
    learnt, taught = learnt.float(), taught.float()
    if kind == "regression":
        return F.mse_loss(learnt, taught)
    if kind == "tagging":
        labelled = labels != IGNORED
        learnt, taught = learnt[labelled], taught[labelled]  # (M, C)
    learnt, taught = ((x / TEMPERATURE).log_softmax(dim=-1) for x in (learnt, taught))
    divergence = F.kl_div(learnt, taught, log_target=True, reduction="batchmean")
    return TEMPERATURE**2 * divergence
