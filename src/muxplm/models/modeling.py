"""Multiplexed models: `multiplexer -> any transformers encoder -> demultiplexer -> head`.

Shapes: R rows of the caller's batch, L tokens each, in B = ceil(R / N) groups; row b*N + i is instance
i of group b. E is the width of the word embeddings, H of the hidden states, V the vocabulary, P the
length of the prefix (N for the prefix demultiplexer, else 0).
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
from transformers import initialization as init
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from muxplm.models.configuration import MuxConfig
from muxplm.models.demultiplexers import DEMULTIPLEXERS, RSADemultiplexer
from muxplm.models.multiplexers import MULTIPLEXERS, HadamardMultiplexer

IGNORED = -100  # label of a position that no loss reads


@dataclass
class Encoded:
    """What the encoder made of the groups. `input_ids` and `mask` hold the filler rows too."""

    hidden: torch.Tensor  # (B, L, H)
    prefix: torch.Tensor  # (B, P, H)
    input_ids: torch.Tensor  # (B*N, L)
    mask: torch.Tensor  # (B*N, L) of 0 and 1


class MuxPreTrainedModel(PreTrainedModel):
    config_class = MuxConfig
    base_model_prefix = "model"
    accepts_loss_kwargs = False  # every loss is a mean over the batch it was given
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (HadamardMultiplexer, RSADemultiplexer)):
            init.normal_(module.keys, mean=0.0, std=1.0)  # equation (1): v ~ N(0, I)
        elif isinstance(module, LanguageModelHead):
            init.zeros_(module.bias)

    def get_input_embeddings(self):
        return getattr(self, "model", self).encoder.get_input_embeddings()


class MuxModel(MuxPreTrainedModel):
    """The multiplexed encoder without a head. Its output is demultiplexed: one state per row."""

    def __init__(self, config):
        super().__init__(config)
        self.multiplexer = MULTIPLEXERS[config.multiplexer](config)
        self.encoder = _build_encoder(config.encoder)
        self.demultiplexer = DEMULTIPLEXERS[config.demultiplexer](config)
        if config.prefix_length:
            # prefix_i holds instance i's own id at position i and the padding id elsewhere.
            *own, padding = config.prefix_token_ids
            prefix = torch.full((len(own), len(own)), padding)  # (N, P) with P = N
            prefix.fill_diagonal_(0).add_(torch.diag(torch.tensor(own)))
            self.register_buffer("prefix_ids", prefix)
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
        n = self.config.num_instances
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = len(input_ids)
        if left := rows % n:
            filler = rows - left + torch.arange(n - left, device=input_ids.device) % left
            filled = torch.cat([torch.arange(rows, device=input_ids.device), filler])
            input_ids, mask = input_ids[filled], mask[filled]  # (R, L) -> (B*N, L)
        embedded = self.get_input_embeddings()(input_ids)  # (B*N, L, E)
        embedded = embedded.unflatten(0, (-1, n))  # (B*N, L, E) -> (B, N, L, E)
        instance_mask = mask.unflatten(0, (-1, n))  # (B*N, L) -> (B, N, L)
        mixed = self.multiplexer(embedded, instance_mask)  # (B, N, L, E) -> (B, L, E)
        group_mask = instance_mask.amax(dim=1)  # (B, N, L) -> (B, L): some instance is still going
        if self.config.prefix_length:
            prefix = self._mixed_prefix().expand(len(mixed), -1, -1)  # (1, P, E) -> (B, P, E)
            mixed = torch.cat([prefix.to(mixed.dtype), mixed], dim=1)  # (B, P + L, E)
            group_mask = F.pad(group_mask, (self.config.prefix_length, 0), value=1)
        hidden = self.encoder(
            inputs_embeds=mixed,
            attention_mask=None if attention_mask is None else group_mask,
            **kwargs,
        ).last_hidden_state  # (B, P + L, H)
        prefix, hidden = hidden.split([hidden.shape[1] - mask.shape[1], mask.shape[1]], dim=1)
        return Encoded(hidden, prefix, input_ids, mask)

    def _mixed_prefix(self):
        """The N prefixes multiplexed like any N sequences; they are the same for every group."""
        embedded = self.get_input_embeddings()(self.prefix_ids)[None]  # (1, N, P, E)
        return self.multiplexer(embedded, torch.ones_like(self.prefix_ids)[None])  # (1, P, E)


class LanguageModelHead(nn.Module):
    """Hidden states to scores over the vocabulary; the output matrix is the word embeddings'.

    The embeddings are passed in at each call: owned once, they are saved once.
    """

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden, embeddings):
        """hidden (..., H), embeddings (V, E) -> (..., V)."""
        return F.linear(self.norm(F.gelu(self.dense(hidden))), embeddings, self.bias)


class MuxModelWithHead(MuxPreTrainedModel):
    """What all heads share: the multiplexed encoder and the token-retrieval objective."""

    needs_language_model_head = False

    def __init__(self, config):
        super().__init__(config)
        self.model = MuxModel(config)
        if self.needs_language_model_head or config.retrieval_weight:
            self.lm_head = LanguageModelHead(config)

    def demultiplex(self, encoded: Encoded, **where):
        return self.model.demultiplexer(encoded.hidden, encoded.prefix, **where)

    def vocabulary_scores(self, hidden):
        return self.lm_head(hidden, self.get_input_embeddings().weight)

    def retrieval_loss(self, encoded: Encoded):
        """Cross-entropy of one instance's own token, drawn anew for each position of each group.

        The auto-encoding task of priming (section 3.2): B*L predictions, not N*B*L, as in DataMUX.
        """
        n = self.config.num_instances
        groups, length = encoded.hidden.shape[:2]
        instance = torch.randint(n, (groups, length), device=encoded.hidden.device)
        first_row = torch.arange(0, groups * n, n, device=instance.device)  # (B,)
        rows = first_row[:, None] + instance  # (B, L), row b*N + i
        positions = torch.arange(length, device=rows.device).expand_as(rows)  # (B, L)
        kept = encoded.mask[rows, positions].bool()
        where = (rows[kept], positions[kept])  # (M,) each
        scores = self.vocabulary_scores(self.demultiplex(encoded, where=where))  # (M, V)
        return F.cross_entropy(scores.float(), encoded.input_ids[where])

    def total_loss(self, task_loss, encoded: Encoded):
        """(1 - w) * task + w * retrieval; at w = 0 the retrieval head is not run at all."""
        weight = self.config.retrieval_weight
        if not weight:
            return task_loss
        return (1 - weight) * task_loss + weight * self.retrieval_loss(encoded)


class MuxForTokenRetrieval(MuxModelWithHead):
    """Priming: every instance's tokens are read back from the multiplexed states."""

    needs_language_model_head = True

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None):
        """(R, L) ids -> logits (R, L, V), or, given any `labels`, the loss alone."""
        encoded = self.model.encode(input_ids, attention_mask)
        if labels is not None:
            return MaskedLMOutput(loss=self.retrieval_loss(encoded))
        scores = self.vocabulary_scores(self.demultiplex(encoded))  # (B*N, L, V)
        return MaskedLMOutput(logits=scores[: len(input_ids)])


class MuxForMaskedLM(MuxModelWithHead):
    """Masked language modelling over N multiplexed inputs."""

    needs_language_model_head = True

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None):
        """(R, L) ids -> logits (R, L, V).

        With labels (R, L), -100 where nothing was masked, only the M masked positions are
        demultiplexed and scored: loss, and logits (M, V) in row-major order of the labels.
        """
        encoded = self.model.encode(input_ids, attention_mask)
        if labels is None:
            scores = self.vocabulary_scores(self.demultiplex(encoded))  # (B*N, L, V)
            return MaskedLMOutput(logits=scores[: len(input_ids)])
        where = (labels != IGNORED).nonzero(as_tuple=True)  # (M,) rows, (M,) positions
        scores = self.vocabulary_scores(self.demultiplex(encoded, where=where))  # (M, V)
        loss = F.cross_entropy(scores.float(), labels[where])
        return MaskedLMOutput(loss=self.total_loss(loss, encoded), logits=scores)


class MuxForPreTraining(MuxModelWithHead):
    """ELECTRA's replaced-token detection over N multiplexed inputs."""

    def __init__(self, config):
        super().__init__(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.discriminator = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None):
        """(R, L) ids, labels (R, L) of 1 where a token was replaced -> logits (R, L)."""
        encoded = self.model.encode(input_ids, attention_mask)
        hidden = self.demultiplex(encoded)[: len(input_ids)]  # (B*N, L, H) -> (R, L, H)
        logits = self.discriminator(F.gelu(self.dense(hidden))).squeeze(-1)  # (R, L)
        if labels is None:
            return TokenClassifierOutput(logits=logits)
        real = encoded.mask[: len(input_ids)].bool()  # (R, L)
        loss = F.binary_cross_entropy_with_logits(logits[real].float(), labels[real].float())
        return TokenClassifierOutput(loss=self.total_loss(loss, encoded), logits=logits)


class MuxForSequenceClassification(MuxModelWithHead):
    """Classification, or regression where num_labels is 1, from each instance's first token."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None):
        """(R, L) ids, labels (R,) -> logits (R, num_labels)."""
        encoded = self.model.encode(input_ids, attention_mask)
        first = encoded.hidden[:, :1]  # (B, L, H) -> (B, 1, H): no other position is read
        pooled = self.model.demultiplexer(first, encoded.prefix)[:, 0]  # (B*N, 1, H) -> (B*N, H)
        logits = self.classifier(self.dropout(pooled[: len(input_ids)]))  # (R, num_labels)
        if labels is None:
            return SequenceClassifierOutput(logits=logits)
        if self.config.num_labels == 1:
            loss = F.mse_loss(logits.squeeze(-1).float(), labels.float())
        else:
            loss = F.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=self.total_loss(loss, encoded), logits=logits)


class MuxForTokenClassification(MuxModelWithHead):
    """One label for each token, as in NER and POS tagging."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None):
        """(R, L) ids, labels (R, L), -100 where there is none -> logits (R, L, num_labels)."""
        encoded = self.model.encode(input_ids, attention_mask)
        hidden = self.demultiplex(encoded)[: len(input_ids)]  # (B*N, L, H) -> (R, L, H)
        logits = self.classifier(self.dropout(hidden))  # (R, L, num_labels)
        if labels is None:
            return TokenClassifierOutput(logits=logits)
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        return TokenClassifierOutput(loss=self.total_loss(loss, encoded), logits=logits)


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
