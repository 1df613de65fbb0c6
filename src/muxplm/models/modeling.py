"""Multiplexed models by what they are trained for: `multiplexed encoder -> head`.

Shapes as in `encoding`: R rows of L tokens in B groups of N, H wide, V words; M chosen positions.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.modeling_outputs import ModelOutput
from transformers.utils import can_return_tuple

from muxplm.models.configuration import MuxConfig
from muxplm.models.encoding import Encoded, MuxModel, MuxPreTrainedModel, class_names

IGNORED = -100  # label of a position that no loss reads
OF_NUMBERS = ("regression", "multi_label_classification")  # problems whose labels are no classes


@dataclass
class MuxOutput(ModelOutput):
    """What a head says. Where retrieval has a weight, `loss` is made of the two that come last."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None
    task_loss: torch.Tensor | None = None
    retrieval_loss: torch.Tensor | None = None


class MuxModelWithHead(MuxPreTrainedModel):
    """What all heads share: the multiplexed encoder, `forward`, and the token-retrieval objective.

    sparse_prediction: given labels, make no logits in evaluation mode but those that a loss reads.
    """

    needs_language_model_head = False
    of_sequences = False
    pretrains = False
    sparse_prediction = False

    def __init__(self, config):
        super().__init__(config)
        self.model = MuxModel(config, self.of_sequences)
        if self.needs_language_model_head or config.retrieval_weight:
            self.lm_head = self.dialect.language_model_head(config)
            self._no_split_modules = class_names(self.lm_head)

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        labels=None,
        *,
        instance=None,
        **asked,
    ):
        """(R, L) ids -> logits, and, given `labels`, the loss: `answer` has the shapes of both.

        instance: see `retrieval_loss`. hidden_states and attentions, if `asked` for, are the encoder's,
        of B groups: `Encoded`. The other arguments: `MuxModel.encode`.
        """
        if labels is not None and self.pretrains:
            cut = self.cut(input_ids, attention_mask, inputs_embeds, labels, instance)
            input_ids, attention_mask, inputs_embeds, labels, instance = cut
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        encoded = self.model.encode(*inputs, **asked)
        task_loss, logits = self.answer(encoded, labels)
        losses = {} if labels is None else self.losses(task_loss, encoded, instance)
        layers = {"hidden_states": encoded.hidden_states, "attentions": encoded.attentions}
        return MuxOutput(logits=logits, **losses, **layers)

    def answer(self, encoded: Encoded, labels):
        """The task's loss, None without labels, and the logits."""
        raise NotImplementedError

    def losses(self, task_loss, encoded: Encoded, instance) -> dict:
        """(1 - w) * task + w * retrieval; at w = 0 the retrieval head is not run at all."""
        if not self.retrieves:
            return {"loss": task_loss}
        weight, retrieval = self.config.retrieval_weight, self.retrieval_loss(encoded, instance)
        total = (1 - weight) * task_loss + weight * retrieval
        return {"loss": total, "task_loss": task_loss, "retrieval_loss": retrieval}

    @property
    def retrieves(self) -> bool:
        """Whether token retrieval is a part of the loss."""
        return bool(self.config.retrieval_weight)

    def demultiplex(self, encoded: Encoded):
        """(B, L, H) -> (R, L, H)."""
        return self.model.demultiplexer(encoded.hidden, encoded.prefix)[: encoded.rows]

    def vocabulary_scores(self, encoded: Encoded, where=None, words=None):
        """(R, L, V), or (M, V) at `where`, a pair of M rows and M positions.

        Given the right words there, (M,): their mean cross-entropy in the logits' place.
        """
        embeddings = self.get_input_embeddings().weight  # (V, E)
        states = self.dialect.read_back(self.model.demultiplexer, self.lm_head, encoded, where)
        return self.lm_head(states[: encoded.rows] if where is None else states, embeddings, words)

    def cut(self, *tensors):
        """Room for the prefix in pre-training, if the dialect makes it so: (R, L) -> (R, L - P)."""
        p = self.config.prefix_length if self.dialect.cuts_rows else 0
        return [t if t is None or not p else t[:, :-p] for t in tensors]

    def retrieval_loss(self, encoded: Encoded, instance=None):
        """Cross-entropy of one instance's own token at each position of each group.

        The auto-encoding task of priming (section 3.2): B*L predictions, not N*B*L, as in DataMUX.
        instance: which of 0..N-1 it is at each position, (B, L); drawn here where it is not given.
        """
        if encoded.input_ids is None:
            raise ValueError(
                "retrieval reads tokens back: with labels give input_ids, not embeddings"
            )
        n = self.config.num_instances
        groups, length = encoded.hidden.shape[:2]
        if instance is None:
            instance = torch.randint(n, (groups, length), device=encoded.hidden.device)
        first_row = torch.arange(0, groups * n, n, device=instance.device)  # (B,)
        rows = first_row[:, None] + instance  # (B, L), row b*N + i
        positions = torch.arange(length, device=rows.device).expand_as(rows)  # (B, L)
        kept = encoded.mask[rows, positions].bool()
        where = (rows[kept], positions[kept])  # (M,) each
        return self.vocabulary_scores(encoded, where, encoded.input_ids[where])


class MuxForTokenRetrieval(MuxModelWithHead):
    """Priming: every instance's tokens are read back from the multiplexed states."""

    needs_language_model_head = True

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    def answer(self, encoded, labels):
        """Logits (R, L, V). Any labels do: the loss reads the tokens. In training no logits."""
        if labels is not None and (self.training or self.sparse_prediction):
            return None, None
        return None, self.vocabulary_scores(encoded)

    def losses(self, task_loss, encoded, instance) -> dict:
        return {"loss": self.retrieval_loss(encoded, instance)}

    @property
    def retrieves(self) -> bool:
        return True


class MuxForMaskedLM(MuxModelWithHead):
    """Masked language modelling over N multiplexed inputs."""

    needs_language_model_head = True
    pretrains = True

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    def answer(self, encoded, labels):
        """Logits (R, L, V); labels (R, L), -100 where nothing was masked.

        With labels and in training no logits, for the loss alone is wanted. `sparse_prediction` in
        evaluation mode: of the M masked positions alone, (M, V) in row-major order of the labels.
        """
        if labels is None:
            return None, self.vocabulary_scores(encoded)
        where = (labels != IGNORED).nonzero(as_tuple=True)  # (M,) rows, (M,) positions
        if self.training:
            return self.vocabulary_scores(encoded, where, labels[where]), None
        if self.sparse_prediction:
            logits = scores = self.vocabulary_scores(encoded, where)  # (M, V)
        else:
            logits = self.vocabulary_scores(encoded)  # (R, L, V)
            scores = logits[where]  # (R, L, V) -> (M, V)
        loss = F.cross_entropy(scores.float(), labels[where])
        return loss, logits


class MuxForPreTraining(MuxModelWithHead):
    """ELECTRA's replaced-token detection over N multiplexed inputs."""

    pretrains = True

    def __init__(self, config):
        super().__init__(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.discriminator = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def answer(self, encoded, labels):
        """Logits (R, L); labels (R, L), 1 where a token was replaced."""
        hidden = self.demultiplex(encoded)  # (R, L, H)
        logits = self.discriminator(F.gelu(self.dense(hidden))).squeeze(-1)  # (R, L)
        if labels is None:
            return None, logits
        real = encoded.mask[: encoded.rows].bool()  # (R, L)
        loss = F.binary_cross_entropy_with_logits(logits[real].float(), labels[real].float())
        return loss, logits


class MuxForSequenceClassification(MuxModelWithHead):
    """Classification or regression of whole rows, from each instance's first token."""

    of_sequences = True

    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = self.dialect.classifier(config, self.of_sequences)
        self.post_init()

    def answer(self, encoded, labels):
        """Logits (R, num_labels); labels (R,), or (R, num_labels) where a row has many.

        The loss is that of config.problem_type, which transformers infers from the labels if need be.
        """
        read = self.model.demultiplexer(encoded.summary, encoded.prefix)  # (B, 1, H) -> (B*N, 1, H)
        pooled = read[: encoded.rows, 0]  # (R, H): no other position is demultiplexed
        logits = self.classifier(self.dropout(pooled))  # (R, num_labels)
        if labels is None:
            return None, logits
        if self.config.num_labels == 1 or self.config.problem_type in OF_NUMBERS:
            labels = labels.float()
        loss = self.loss_function(labels, logits.float(), self.config)
        return loss, logits


class MuxForTokenClassification(MuxModelWithHead):
    """One label for each token, as in NER and POS tagging."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = self.dialect.classifier(config, self.of_sequences)
        self.post_init()

    def answer(self, encoded, labels):
        """Logits (R, L, num_labels); labels (R, L), -100 where there is none."""
        logits = self.classifier(self.dropout(self.demultiplex(encoded)))  # (R, L, num_labels)
        if labels is None:
            return None, logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        return loss, logits


AutoModel.register(MuxConfig, MuxModel)
AutoModelForMaskedLM.register(MuxConfig, MuxForMaskedLM)
AutoModelForPreTraining.register(MuxConfig, MuxForPreTraining)
AutoModelForSequenceClassification.register(MuxConfig, MuxForSequenceClassification)
AutoModelForTokenClassification.register(MuxConfig, MuxForTokenClassification)
