"""An encoder's last layer where only a row's first positions are read, as classifiers of rows do.

Keys and values are needed of every position; queries, and all that follows attention, of those that are
read. In exact arithmetic the outputs there are the same. Of an encoder whose last layers have lost their
attention (`pruned`) it is the last layer that has one, and those after it see as few positions.
"""

from functools import partial

from transformers.models.bert.modeling_bert import BertCrossAttention, BertLayer
from transformers.models.electra.modeling_electra import ElectraCrossAttention, ElectraLayer
from transformers.models.roberta.modeling_roberta import RobertaCrossAttention, RobertaLayer

from muxplm.models.encoding import layers_of

# Attention of one sequence to another has the parameters of attention within one.
ATTENTION = {
    BertLayer: BertCrossAttention,
    ElectraLayer: ElectraCrossAttention,
    RobertaLayer: RobertaCrossAttention,
}


def read_first_positions(model):
    """From here on the last layer of a classifier of rows computes what the classifier reads alone.

    Its last hidden states then have as many positions. Encoders that are not listed above, and models
    that also read tokens back, are left as they are.
    """
    if getattr(model, "retrieves", False):
        return
    base, config = model.base_model, model.config
    last = last_attending(getattr(base, "encoder", base))
    prefix, summary = (getattr(config, k, 0) for k in ("prefix_length", "summary_position"))
    if type(last) in ATTENTION:
        last.forward = partial(_forward, last, max(prefix, summary + 1))


def last_attending(encoder):
    """The last layer, those passed over whose attention was pruned away; None if no layer is left."""
    for layer in reversed(layers_of(encoder)):
        if type(layer) not in ATTENTION or hasattr(layer.attention, "self"):
            return layer
    return None


def _forward(
    layer,
    count,
    hidden_states,
    attention_mask=None,
    encoder_hidden_states=None,
    encoder_attention_mask=None,
    past_key_values=None,
    **asked,
):
    """The layer's own forward for an encoder. Mask (B, 1, L or 1, L): (B, L, H) -> (B, count, H)."""
    read = hidden_states[:, :count]  # (B, L, H) -> (B, count, H)
    if attention_mask is not None:
        attention_mask = attention_mask[:, :, :count]
    attend = ATTENTION[type(layer)].forward
    attended, _ = attend(
        layer.attention.self, read, hidden_states, attention_mask=attention_mask, **asked
    )
    return layer.feed_forward_chunk(layer.attention.output(attended, read))
