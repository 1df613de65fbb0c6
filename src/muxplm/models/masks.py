"""Masks over the parts of a BERT encoder, multiplied in while it runs, or into its weights for good.

Shapes: `layers` encoder layers of A attention heads, each d wide, and of I intermediate dimensions;
B rows of L tokens, H wide. After CoFi (arXiv 2204.00408, section 3.1), without masks of hidden
dimensions, so that a masked model and its small one are the same function.
"""

from dataclasses import dataclass, fields

import torch
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import (
    BertForSequenceClassification,
    BertForTokenClassification,
)

from muxplm.files import DataError
from muxplm.models.configuration import MuxConfig, PrunedBertConfig
from muxplm.models.encoding import layers_of
from muxplm.models.pruned import (
    PrunedBertForSequenceClassification,
    PrunedBertForTokenClassification,
)

SMALL = {
    BertForSequenceClassification: PrunedBertForSequenceClassification,
    BertForTokenClassification: PrunedBertForTokenClassification,
}


@dataclass
class Masks:
    """Numbers from 0 on, 0 being pruned. A layer whose own mask or whose every unit is 0 is gone."""

    heads: torch.Tensor  # (layers, A): a head's output, before the output projection
    attention: torch.Tensor  # (layers,): the output projection's output, bias included
    intermediates: torch.Tensor  # (layers, I): after the activation
    feed_forward: torch.Tensor  # (layers,): the second matrix's output, bias included

    @classmethod
    def ones(cls, config, **options):
        """Of a BERT's config: nothing is pruned."""
        layers = config.num_hidden_layers
        shapes = ((layers, config.num_attention_heads), (layers,))
        shapes += ((layers, config.intermediate_size), (layers,))
        return cls(*(torch.ones(shape, **options) for shape in shapes))

    def to(self, *where) -> "Masks":
        return Masks(**{name: tensor.to(*where) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, torch.Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def kept(self) -> "Masks":
        """Whether each unit, and each layer's part, is there: the same shapes, of booleans."""
        attention = (self.attention > 0) & (self.heads > 0).any(dim=1)  # (layers,)
        feed_forward = (self.feed_forward > 0) & (self.intermediates > 0).any(dim=1)
        heads = (self.heads > 0) & attention[:, None]
        between = (self.intermediates > 0) & feed_forward[:, None]
        return Masks(heads, attention, between, feed_forward)

    @property
    def structure(self) -> tuple[list[int], list[int]]:
        """How many heads, and how many intermediate dimensions, each layer keeps."""
        kept = self.kept
        return kept.heads.sum(dim=1).tolist(), kept.intermediates.sum(dim=1).tolist()


def encoder_of(model):
    """The BERT encoder of a model, plain or multiplexed. DataError for any other encoder."""
    base = model.base_model
    encoder = getattr(base, "encoder", base) if isinstance(model.config, MuxConfig) else base
    if type(encoder.config) is not BertConfig:
        raise DataError(f"only a whole BERT can be pruned, not a {encoder.config.model_type}")
    return encoder


class Masked:
    """A model whose encoder's parts are multiplied by `masks`, which may be set anew for each pass.

    None: the model as it is. `remove` takes the hooks off again.
    """

    def __init__(self, model, masks: Masks | None = None):
        self.masks, self.handles = masks, []
        config = encoder_of(model).config
        self.head_size = config.hidden_size // config.num_attention_heads
        for number, layer in enumerate(layers_of(encoder_of(model))):
            self._hook(layer.attention.output, "heads", "attention", number)
            self._hook(layer.output, "intermediates", "feed_forward", number)

    def _hook(self, output, units: str, part: str, number: int):
        """output: a BertSelfOutput or BertOutput, `dense` -> + residual -> LayerNorm."""

        def before(dense, given):  # (B, L, A*d or I)
            if self.masks is None:
                return None
            mask = getattr(self.masks, units)[number]
            return given[0] * (mask.repeat_interleave(self.head_size) if units == "heads" else mask)

        def after(dense, given, put_out):  # (B, L, H)
            return None if self.masks is None else put_out * getattr(self.masks, part)[number]

        def past(output, given, normed):  # a part that is gone leaves the residual as it was
            if self.masks is None:
                return None
            there = getattr(self.masks.kept, part)[number]
            return torch.where(there, normed, given[1])

        self.handles.append(output.dense.register_forward_pre_hook(before))
        self.handles.append(output.dense.register_forward_hook(after))
        self.handles.append(output.register_forward_hook(past))

    def remove(self):
        for handle in self.handles:
            handle.remove()


@torch.no_grad()
def shrink(model, masks: Masks):
    """A model without the parts whose mask is 0, the other masks multiplied into its weights.

    `model`, a sequence or token classifier, is left as it is. The answers are those of Masked(model,
    masks), up to the order in which sums are made.
    """
    masks = masks.to(model.device)
    encoder, kept = encoder_of(model), masks.kept
    heads, intermediates = masks.structure
    values = encoder.config.to_dict() | {"heads": heads, "intermediates": intermediates}
    values["model_type"] = PrunedBertConfig.model_type
    config = PrunedBertConfig.from_dict(values)
    if isinstance(model.config, MuxConfig):
        whole = type(model.config).from_dict(model.config.to_dict() | {"encoder": config.to_dict()})
        small = type(model)(whole)
    else:
        small = SMALL[type(model)](config)
    size = config.hidden_size // config.num_attention_heads
    state = model.state_dict()
    prefix = next(name for name, module in model.named_modules() if module is encoder)
    for number in range(config.num_hidden_layers):
        layer = f"{prefix}.encoder.layer.{number}"
        rows = kept.heads[number].repeat_interleave(size)  # (H,)
        for part in ("query", "key", "value"):
            _cut(state, f"{layer}.attention.self.{part}", rows)
        scale = masks.heads[number].repeat_interleave(size)
        _fold(state, f"{layer}.attention.output", rows, scale, masks.attention[number])
        rows, scale = kept.intermediates[number], masks.intermediates[number]
        _cut(state, f"{layer}.intermediate.dense", rows)
        _fold(state, f"{layer}.output", rows, scale, masks.feed_forward[number])
    small.to(model.device, model.dtype).load_state_dict(state)
    return small.train(model.training)


def _cut(state, name, rows):
    """Of the linear layer `name` its outputs `rows`, a vector of booleans; none: it is taken out."""
    for tensor in (f"{name}.weight", f"{name}.bias"):
        found = state.pop(tensor)
        if rows.any():
            state[tensor] = found[rows]


def _fold(state, name, columns, scale, of_all):
    """Of the linear layer name.dense its inputs `columns`; their masks and the part's are folded in."""
    names = ("dense.weight", "dense.bias", "LayerNorm.weight", "LayerNorm.bias")
    weight, bias, *norm = (state.pop(f"{name}.{end}") for end in names)
    if columns.any():
        values = ((weight * scale)[:, columns] * of_all, bias * of_all, *norm)
        state.update({f"{name}.{end}": tensor for end, tensor in zip(names, values, strict=True)})


# --- How much is left --------------------------------------------------------------------------


def part_sizes(config) -> tuple[int, int]:
    """Weights and biases of one layer's attention, and of its feed-forward part, without LayerNorms."""
    hidden, between = config.hidden_size, config.intermediate_size
    return 4 * hidden * (hidden + 1), 2 * hidden * between + between + hidden


def sparsity(masks: Masks, config) -> float:
    """The share of the encoder layers' weights and biases, LayerNorms apart, that are pruned away."""
    attention, feed_forward = part_sizes(config)
    size, hidden = config.hidden_size // config.num_attention_heads, config.hidden_size
    left = 0
    for heads, between in zip(*masks.structure, strict=True):
        width = heads * size
        left += (4 * hidden * width + 3 * width + hidden) if heads else 0
        left += (2 * hidden * between + between + hidden) if between else 0
    return 1 - left / (config.num_hidden_layers * (attention + feed_forward))


def expected_sparsity(probabilities: Masks, config) -> torch.Tensor:
    """The same where each mask is not 0 with its own probability, independently; differentiable.

    E = sum of P_attention P_head a / A + P_feed_forward P_intermediate f / I, with a and f the sizes of
    the two parts (CoFi, equation 4): a bias of a part's output counts by its units, too.
    """
    attention, feed_forward = part_sizes(config)
    p = probabilities
    left = (p.attention[:, None] * p.heads).sum() * attention / p.heads.shape[1]
    left = (
        left
        + (p.feed_forward[:, None] * p.intermediates).sum()
        * feed_forward
        / (p.intermediates.shape[1])
    )
    return 1 - left / (config.num_hidden_layers * (attention + feed_forward))
