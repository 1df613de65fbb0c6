"""Multiplexed models: `multiplexer -> any transformers encoder -> demultiplexer -> head`.

Shapes: R rows of the caller's batch, L tokens each, in B = ceil(R / N) groups; row b*N + i is instance
i of group b. E is the width of the word embeddings, H of the hidden states, V the vocabulary, P the
length of the prefix (0 but for the prefix demultiplexer). The parts are those of `config.dialect`, the
paper's or the authors' checkpoints': docs/dialects.md.
"""

import inspect
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
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput, ModelOutput

from muxplm.models.configuration import MuxConfig
from muxplm.models.dialect import Dialect
from muxplm.models.released.dialect import ReleasedDialect

DIALECTS = {"paper": Dialect(), "released": ReleasedDialect()}
IGNORED = -100  # label of a position that no loss reads


@dataclass
class Encoded:
    """What the encoder made of the groups. `input_ids` and `mask` hold the filler rows too."""

    hidden: torch.Tensor  # (B, L, H)
    prefix: torch.Tensor | None  # (B, N, H), the prefix demultiplexer's keys
    summary: torch.Tensor  # (B, 1, H), what classifiers of whole rows read
    input_ids: torch.Tensor  # (B*N, L)
    mask: torch.Tensor  # (B*N, L) of 0 and 1


@dataclass
class MuxOutput(ModelOutput):
    """What a head says. `loss` is the sum of the two that follow it, weighted."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    task_loss: torch.Tensor | None = None  # these two where there is a retrieval weight
    retrieval_loss: torch.Tensor | None = None


class MuxPreTrainedModel(PreTrainedModel):
    config_class = MuxConfig
    base_model_prefix = "model"
    accepts_loss_kwargs = False  # every loss is a mean over the batch it was given
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config):
        super().__init__(config)
        self.dialect = DIALECTS[config.dialect]

    def _init_weights(self, module):
        super()._init_weights(module)
        if hasattr(module, "draw_weights"):  # a part of ours with tensors of its own
            module.draw_weights(self.config)

    def get_input_embeddings(self):
        return getattr(self, "model", self).encoder.get_input_embeddings()


class MuxModel(MuxPreTrainedModel):
    """The multiplexed encoder without a head. Its output is demultiplexed: one state per row.

    of_sequences: whether the head over it classifies whole rows.
    """

    def __init__(self, config, of_sequences=False):
        super().__init__(config)
        self.multiplexer = self.dialect.multiplexer(config, of_sequences)
        self.encoder = _build_encoder(config.encoder)
        self.demultiplexer = self.dialect.demultiplexer(config)
        if config.prefix_length:
            # prefix_i holds instance i's own id at position i and the padding id elsewhere.
            n, ids = config.num_instances, torch.tensor(config.prefix_token_ids)
            own = torch.eye(n, dtype=torch.bool)
            prefix = torch.where(own, ids[:n], ids[n])  # (N, N)
            ends = ids[n + 1 :].expand(n, -1)  # (N, P - N): what ends the prefix, if anything does
            self.register_buffer("prefix_ids", torch.cat([prefix, ends], dim=1))  # (N, P)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        """input_ids, attention_mask (R, L) -> last_hidden_state (R, L, H)."""
        encoded = self.encode(input_ids, attention_mask)
        hidden = self.demultiplexer(encoded.hidden, encoded.prefix)  # (B, L, H) -> (B*N, L, H)
        return BaseModelOutput(last_hidden_state=hidden[: len(input_ids)])

    def encode(self, input_ids, attention_mask=None, **kwargs) -> Encoded:
        """(R, L) ids -> B groups through the encoder. R need not be a multiple of N.

        The last group is completed with its own rows, from its first on: a result then depends on the
        group alone, not on the size of the batch it came in, nor on chance.
        """
        n, p = self.config.num_instances, self.config.prefix_length
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = len(input_ids)
        if left := rows % n:
            filler = rows - left + torch.arange(n - left, device=input_ids.device) % left
            filled = torch.cat([torch.arange(rows, device=input_ids.device), filler])
            input_ids, mask = input_ids[filled], mask[filled]  # (R, L) -> (B*N, L)
        if self.config.first_token_id is not None:
            first = torch.full_like(input_ids[:, :1], self.config.first_token_id)
            input_ids = torch.cat([first, input_ids[:, 1:]], dim=1)  # (B*N, L)
        ids, shown = input_ids, mask
        if p:
            prefix = self.prefix_ids.repeat(len(ids) // n, 1)  # (N, P) -> (B*N, P)
            ids = torch.cat([prefix, ids], dim=1)  # (B*N, P + L)
            shown = F.pad(shown, (p, 0), value=1)
        embedded = self.dialect.embed(self.encoder, ids)  # (B*N, P + L, E)
        embedded = embedded.unflatten(0, (-1, n))  # (B*N, P + L, E) -> (B, N, P + L, E)
        shown = shown.unflatten(0, (-1, n))  # (B*N, P + L) -> (B, N, P + L)
        mixed = self.multiplexer(embedded, shown)  # (B, N, P + L, E) -> (B, P + L, E)
        group_mask = shown.amax(dim=1)  # (B, N, P + L) -> (B, P + L): some instance is still going
        masked = self.dialect.masks_padding and attention_mask is not None
        hidden = self.encoder(
            inputs_embeds=mixed, attention_mask=group_mask if masked else None, **kwargs
        ).last_hidden_state  # (B, P + L, H)
        keys = hidden[:, :n] if p else None
        s = self.config.summary_position
        return Encoded(hidden[:, p:], keys, hidden[:, s : s + 1], input_ids, mask)


class MuxModelWithHead(MuxPreTrainedModel):
    """What all heads share: the multiplexed encoder and the token-retrieval objective."""

    needs_language_model_head = False
    of_sequences = False

    def __init__(self, config):
        super().__init__(config)
        self.model = MuxModel(config, self.of_sequences)
        if self.needs_language_model_head or config.retrieval_weight:
            self.lm_head = self.dialect.language_model_head(config)

    def demultiplex(self, encoded: Encoded):
        return self.model.demultiplexer(encoded.hidden, encoded.prefix)

    def vocabulary_scores(self, encoded: Encoded, **where):
        embeddings = self.get_input_embeddings().weight  # (V, E)
        return self.lm_head(self.model.demultiplexer, encoded, embeddings, **where)

    def cut(self, *tensors):
        """Room for the prefix in pre-training, if the dialect makes it so: (R, L) -> (R, L - P)."""
        p = self.config.prefix_length if self.dialect.cuts_rows else 0
        return [t if t is None or not p else t[:, :-p] for t in tensors]

    @property
    def retrieves(self) -> bool:
        """Whether token retrieval is a part of the loss."""
        return bool(self.config.retrieval_weight)

    def retrieval_loss(self, encoded: Encoded, instance=None):
        """Cross-entropy of one instance's own token at each position of each group.

        The auto-encoding task of priming (section 3.2): B*L predictions, not N*B*L, as in DataMUX.
        instance: which of 0..N-1 it is at each position, (B, L); drawn here where it is not given.
        """
        n = self.config.num_instances
        groups, length = encoded.hidden.shape[:2]
        if instance is None:
            instance = torch.randint(n, (groups, length), device=encoded.hidden.device)
        first_row = torch.arange(0, groups * n, n, device=instance.device)  # (B,)
        rows = first_row[:, None] + instance  # (B, L), row b*N + i
        positions = torch.arange(length, device=rows.device).expand_as(rows)  # (B, L)
        kept = encoded.mask[rows, positions].bool()
        where = (rows[kept], positions[kept])  # (M,) each
        scores = self.vocabulary_scores(encoded, where=where)  # (M, V)
        return F.cross_entropy(scores.float(), encoded.input_ids[where])

    def output(self, task_loss, logits, encoded: Encoded, instance) -> MuxOutput:
        """(1 - w) * task + w * retrieval; at w = 0 the retrieval head is not run at all."""
        if not self.retrieves:
            return MuxOutput(task_loss, logits)
        weight, retrieval = self.config.retrieval_weight, self.retrieval_loss(encoded, instance)
        total = (1 - weight) * task_loss + weight * retrieval
        return MuxOutput(total, logits, task_loss, retrieval)


class MuxForTokenRetrieval(MuxModelWithHead):
    """Priming: every instance's tokens are read back from the multiplexed states."""

    needs_language_model_head = True

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    @property
    def retrieves(self) -> bool:
        return True

    def forward(self, input_ids, attention_mask=None, labels=None, instance=None):
        """(R, L) ids -> logits (R, L, V), or, given any `labels`, the loss alone."""
        encoded = self.model.encode(input_ids, attention_mask)
        if labels is not None:
            return MuxOutput(loss=self.retrieval_loss(encoded, instance))
        scores = self.vocabulary_scores(encoded)  # (B*N, L, V)
        return MuxOutput(logits=scores[: len(input_ids)])


class MuxForMaskedLM(MuxModelWithHead):
    """Masked language modelling over N multiplexed inputs."""

    needs_language_model_head = True

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None, instance=None):
        """(R, L) ids -> logits (R, L, V).

        With labels (R, L), -100 where nothing was masked, only the M masked positions are
        demultiplexed and scored: loss, and logits (M, V) in row-major order of the labels.
        """
        if labels is not None:
            inputs = self.cut(input_ids, attention_mask, labels, instance)
            input_ids, attention_mask, labels, instance = inputs
        encoded = self.model.encode(input_ids, attention_mask)
        if labels is None:
            scores = self.vocabulary_scores(encoded)  # (B*N, L, V)
            return MuxOutput(logits=scores[: len(input_ids)])
        where = (labels != IGNORED).nonzero(as_tuple=True)  # (M,) rows, (M,) positions
        scores = self.vocabulary_scores(encoded, where=where)  # (M, V)
        loss = F.cross_entropy(scores.float(), labels[where])
        return self.output(loss, scores, encoded, instance)


class MuxForPreTraining(MuxModelWithHead):
    """ELECTRA's replaced-token detection over N multiplexed inputs."""

    def __init__(self, config):
        super().__init__(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.discriminator = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None, instance=None):
        """(R, L) ids, labels (R, L) of 1 where a token was replaced -> logits (R, L)."""
        if labels is not None:
            inputs = self.cut(input_ids, attention_mask, labels, instance)
            input_ids, attention_mask, labels, instance = inputs
        encoded = self.model.encode(input_ids, attention_mask)
        hidden = self.demultiplex(encoded)[: len(input_ids)]  # (B*N, L, H) -> (R, L, H)
        logits = self.discriminator(F.gelu(self.dense(hidden))).squeeze(-1)  # (R, L)
        if labels is None:
            return MuxOutput(logits=logits)
        real = encoded.mask[: len(input_ids)].bool()  # (R, L)
        loss = F.binary_cross_entropy_with_logits(logits[real].float(), labels[real].float())
        return self.output(loss, logits, encoded, instance)


class MuxForSequenceClassification(MuxModelWithHead):
    """Classification, or regression where num_labels is 1, from each instance's first token."""

    of_sequences = True

    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = self.dialect.classifier(config, self.of_sequences)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None, instance=None):
        """(R, L) ids, labels (R,) -> logits (R, num_labels)."""
        encoded = self.model.encode(input_ids, attention_mask)
        read = self.model.demultiplexer(encoded.summary, encoded.prefix)  # (B, 1, H) -> (B*N, 1, H)
        pooled = read[:, 0]  # (B*N, H): no other position is demultiplexed
        logits = self.classifier(self.dropout(pooled[: len(input_ids)]))  # (R, num_labels)
        if labels is None:
            return MuxOutput(logits=logits)
        if self.config.num_labels == 1:
            loss = F.mse_loss(logits.squeeze(-1).float(), labels.float())
        else:
            loss = F.cross_entropy(logits.float(), labels)
        return self.output(loss, logits, encoded, instance)


class MuxForTokenClassification(MuxModelWithHead):
    """One label for each token, as in NER and POS tagging."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = self.dialect.classifier(config, self.of_sequences)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None, instance=None):
        """(R, L) ids, labels (R, L), -100 where there is none -> logits (R, L, num_labels)."""
        encoded = self.model.encode(input_ids, attention_mask)
        hidden = self.demultiplex(encoded)[: len(input_ids)]  # (B*N, L, H) -> (R, L, H)
        logits = self.classifier(self.dropout(hidden))  # (R, L, num_labels)
        if labels is None:
            return MuxOutput(logits=logits)
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        return self.output(loss, logits, encoded, instance)


def _build_encoder(config):
    """The encoder alone: where its class would add a pooling layer, it is left out."""
    encoder_class = AutoModel._model_mapping[type(config)]
    takes_pooler = "add_pooling_layer" in inspect.signature(encoder_class.__init__).parameters
    return AutoModel.from_config(config, **({"add_pooling_layer": False} if takes_pooler else {}))


AutoModel.register(MuxConfig, MuxModel)
AutoModelForMaskedLM.register(MuxConfig, MuxForMaskedLM)
AutoModelForPreTraining.register(MuxConfig, MuxForPreTraining)
AutoModelForSequenceClassification.register(MuxConfig, MuxForSequenceClassification)
AutoModelForTokenClassification.register(MuxConfig, MuxForTokenClassification)
