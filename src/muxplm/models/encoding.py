"""The multiplexed encoder: `multiplexer -> any transformers encoder -> demultiplexer`.

Shapes: R rows of the caller's batch, L tokens each, in B = ceil(R / N) groups; row b*N + i is instance
i of group b. E is the width of the word embeddings, H of the hidden states, V the vocabulary, P the
length of the prefix (0 but for the prefix demultiplexer). The parts are those of `config.dialect`, the
paper's or the authors' checkpoints': docs/dialects.md. How far a model behaves like transformers' own:
docs/transformers.md.
"""

import inspect
from dataclasses import dataclass

import torch
import transformers
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from muxplm.models.configuration import MuxConfig
from muxplm.models.dialect import Dialect
from muxplm.models.released.dialect import ReleasedDialect

DIALECTS = {"paper": Dialect(), "released": ReleasedDialect()}


@dataclass
class Encoded:
    """What the encoder made of the groups. `input_ids` and `mask` hold the filler rows too."""

    hidden: torch.Tensor  # (B, L, H)
    prefix: torch.Tensor | None  # (B, N, H), the prefix demultiplexer's keys
    summary: torch.Tensor  # (B, 1, H), what classifiers of whole rows read
    input_ids: torch.Tensor | None  # (B*N, L), unless embeddings were given
    mask: torch.Tensor  # (B*N, L) of 0 and 1
    rows: int  # R, of the B*N rows those that are the caller's
    hidden_states: tuple | None  # the encoder's: of each layer and what went in, (B, P + L, H)
    attentions: tuple | None  # the encoder's: of each layer (B, heads, P + L, P + L)


class MuxPreTrainedModel(PreTrainedModel):
    config_class = MuxConfig
    base_model_prefix = "model"
    accepts_loss_kwargs = False  # every loss is a mean over the batch it was given
    supports_gradient_checkpointing = True
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
        return self.base_model.encoder.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.base_model.encoder.set_input_embeddings(value)

    def get_output_embeddings(self):
        """None: the vocabulary head is handed the word embeddings at each call, so nothing is tied."""
        return None

    def resize_token_embeddings(
        self, new_num_tokens=None, pad_to_multiple_of=None, mean_resizing=True
    ):
        """As transformers', the vocabulary head's bias too. ValueError if it cut off an id in use."""
        config = self.config
        used = max([*(config.prefix_token_ids or ()), config.first_token_id or 0])
        if new_num_tokens is not None and new_num_tokens <= used:
            raise ValueError(
                f"the model itself uses token {used}, so {new_num_tokens} embeddings are too few"
            )
        embeddings = super().resize_token_embeddings(
            new_num_tokens, pad_to_multiple_of, mean_resizing
        )
        self.base_model.encoder.config.vocab_size = embeddings.num_embeddings
        if hasattr(self, "lm_head"):
            self.lm_head.resize(embeddings.num_embeddings)
        return embeddings


class MuxModel(MuxPreTrainedModel):
    """The multiplexed encoder without a head. Its output is demultiplexed: one state per row.

    of_sequences: whether the head over it classifies whole rows.
    """

    def __init__(self, config, of_sequences=False):
        super().__init__(config)
        self.multiplexer = self.dialect.multiplexer(config, of_sequences)
        self.encoder = _build_encoder(config.encoder)
        self.demultiplexer = self.dialect.demultiplexer(config)
        parts = (self.multiplexer, self.demultiplexer, *layers_of(self.encoder))
        self._no_split_modules = class_names(*parts)
        if config.prefix_length:
            # prefix_i holds instance i's own id at position i and the padding id elsewhere.
            n, ids = config.num_instances, torch.tensor(config.prefix_token_ids)
            own = torch.eye(n, dtype=torch.bool)
            prefix = torch.where(own, ids[:n], ids[n])  # (N, N)
            ends = ids[n + 1 :].expand(n, -1)  # (N, P - N): what ends the prefix, if anything does
            self.register_buffer("prefix_ids", torch.cat([prefix, ends], dim=1))  # (N, P)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        **asked,
    ):
        """(R, L) ids -> last_hidden_state (R, L, H); arguments and what `asked` may hold: `encode`."""
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        encoded = self.encode(*inputs, **asked)
        hidden = self.demultiplexer(encoded.hidden, encoded.prefix)  # (B, L, H) -> (B*N, L, H)
        return BaseModelOutput(
            last_hidden_state=hidden[: encoded.rows],
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def encode(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        output_hidden_states=None,
        output_attentions=None,
    ) -> Encoded:
        """(R, L) ids, or (R, L, E) word embeddings -> B groups through the encoder; any R will do.

        The last group is completed with its own rows, from its first on: a result then depends on the
        group alone, not on the size of the batch it came in, nor on chance.

        token_type_ids is ignored: segments are never told apart. ValueError if there are position_ids,
        both or none of the two inputs, or a mask that is not (R, L).
        """
        if position_ids is not None:
            raise ValueError(
                "position_ids is not taken: rows that share a pass share its positions"
            )
        given, mask = _checked(input_ids, inputs_embeds, attention_mask)
        n, p = self.config.num_instances, self.config.prefix_length
        rows = given.shape[0]
        if left := rows % n:
            filler = rows - left + torch.arange(n - left, device=given.device) % left
            filled = torch.cat([torch.arange(rows, device=given.device), filler])
            given, mask = given[filled], mask[filled]  # (R, L) -> (B*N, L)
        if self.config.first_token_id is not None:
            first = torch.full_like(mask[:, :1], self.config.first_token_id, dtype=torch.long)
            given = torch.cat([self._like(given, first), given[:, 1:]], dim=1)  # (B*N, L)
        ids, shown = None if input_ids is None else given, mask
        if p:
            prefix = self.prefix_ids.repeat(given.shape[0] // n, 1)  # (N, P) -> (B*N, P)
            given = torch.cat([self._like(given, prefix), given], dim=1)  # (B*N, P + L)
            shown = F.pad(shown, (p, 0), value=1)
        embedded = self.dialect.embed(self.encoder, given)  # (B*N, P + L, E)
        embedded = embedded.unflatten(0, (-1, n))  # (B*N, P + L, E) -> (B, N, P + L, E)
        shown = shown.unflatten(0, (-1, n))  # (B*N, P + L) -> (B, N, P + L)
        mixed = self.multiplexer(embedded, shown)  # (B, N, P + L, E) -> (B, P + L, E)
        group_mask = shown.amax(dim=1)  # (B, N, P + L) -> (B, P + L): some instance is still going
        masked = self.dialect.masks_padding and attention_mask is not None
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        output = self.encoder(
            inputs_embeds=mixed,
            attention_mask=group_mask if masked else None,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        hidden, s = output.last_hidden_state, self.config.summary_position  # (B, P + L, H)
        keys, summary = hidden[:, :n] if p else None, hidden[:, s : s + 1]
        layers = (output.hidden_states, output.attentions)
        return Encoded(hidden[:, p:], keys, summary, ids, mask, rows, *layers)

    def _like(self, given, ids):
        """ids (..., L) as they are, or embedded, (..., L, E), where `given` is."""
        return ids if given.ndim == 2 else self.get_input_embeddings()(ids)


def _build_encoder(config):
    """The encoder alone: where its class would add a pooling layer, it is left out."""
    # Not imported above: loading the registry registers our models, which import this module.
    registry = transformers.AutoModel
    encoder_class = registry._model_mapping[type(config)]
    takes_pooler = "add_pooling_layer" in inspect.signature(encoder_class.__init__).parameters
    return registry.from_config(config, **({"add_pooling_layer": False} if takes_pooler else {}))


def layers_of(encoder) -> list:
    """The encoder's layers, which not every encoder names for `device_map`."""
    # Imported late: transformers may be importing it when this module is registered.
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [
        module for module in encoder.modules() if isinstance(module, GradientCheckpointingLayer)
    ]


def _checked(input_ids, inputs_embeds, mask):
    """What was given, (R, L) or (R, L, E), and its mask (R, L), of ones where there was none."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give either input_ids or inputs_embeds")
    given = inputs_embeds if input_ids is None else input_ids
    shape = given.shape[:2]
    if mask is None:
        mask = torch.ones(shape, dtype=torch.long, device=given.device)
    if mask.shape != shape:
        raise ValueError(f"attention_mask is {tuple(mask.shape)} where the rows are {tuple(shape)}")
    return given, mask


def class_names(*parts) -> list[str]:
    """Their classes, of which `device_map` splits none over devices."""
    return [type(part).__name__ for part in parts]
