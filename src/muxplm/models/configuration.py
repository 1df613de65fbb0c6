"""The configuration of a multiplexed model: any transformers encoder, plus how N inputs share it.

And that of an encoder of which a part was pruned away, alone or in a multiplexed model.
"""

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

# By dialect, how many ids a prefix needs beside one for each instance: one pads it, and in the released
# dialect another one, a [CLS], ends it.
PREFIX_IDS = {"paper": 1, "released": 2}
# Switches of older configs, each with the dialect in which it was on unless said otherwise.
FORMER_SWITCHES = {
    "embeds_twice": "released",
    "masks_padding": "paper",
    "demultiplexer_norms": "paper",
}


class MuxConfig(PreTrainedConfig):
    """`multiplexer -> encoder -> demultiplexer -> head`.

    num_instances: N, how many inputs go through the encoder as one.
    multiplexer, demultiplexer: names in the registries of `dialect`.
    demultiplexer_layers: linear layers of the demultiplexer's MLP.
    prefix_token_ids: vocabulary ids that only the prefix demultiplexer uses: one for each instance,
        one that pads the prefix and, in the released dialect, one that ends it.
    retrieval_weight: weight of the token-retrieval loss beside the head's own, which gets the rest.
    encoder: the encoder's config, or its values as a dict with "model_type".
    dialect: "paper", or "released": what the authors' checkpoints were trained with (docs/dialects.md).
    first_token_id: released dialect: this id takes the place of every row's first.
    padded_length: the length to which rows are padded for a model that sees padding; None: any.

    Raises ValueError where the parts do not fit together.
    """

    model_type = "muxplm"
    keys_to_ignore_at_inference = ["task_loss", "retrieval_loss"]  # Trainer takes them for logits
    sub_configs_defaults = {"encoder": SubConfigSpec(config_class=AutoConfig, model_type="bert")}

    num_instances: int = 2
    multiplexer: str = "hadamard"
    demultiplexer: str = "rsa"
    demultiplexer_layers: int = 2
    prefix_token_ids: list[int] | None = None
    retrieval_weight: float = 0.0
    classifier_dropout: float = 0.1
    encoder: PreTrainedConfig | dict | None = None
    dialect: str = "paper"
    first_token_id: int | None = None
    padded_length: int | None = None

    def __post_init__(self, **kwargs):
        switches = {name: kwargs.pop(name, None) for name in FORMER_SWITCHES}
        super().__post_init__(**kwargs)
        if self.num_instances < 1:
            raise ValueError(f"num_instances is {self.num_instances}; it must be at least 1")
        if self.dialect not in PREFIX_IDS:
            raise ValueError(
                f"dialect is {self.dialect!r}; it must be one of {', '.join(PREFIX_IDS)}"
            )
        for name, value in switches.items():
            expected = self.dialect == FORMER_SWITCHES[name]
            if value not in (None, expected):
                raise ValueError(
                    f"{name} is {value} where the {self.dialect} dialect has {expected}: dialects can "
                    "no longer be mixed, so train the model anew in one of them (docs/dialects.md)"
                )
        largest = max(self.prefix_token_ids or [0])
        if self.encoder is not None and largest >= self.vocab_size:
            raise ValueError(
                f"prefix_token_ids has {largest}, and the vocabulary {self.vocab_size} ids"
            )
        given = len(self.prefix_token_ids or ())
        needed = self.num_instances + PREFIX_IDS[self.dialect]
        if self.demultiplexer == "prefix" and given != needed:
            raise ValueError(
                f"prefix_token_ids holds {given} ids; a prefix demultiplexer for N = "
                f"{self.num_instances} needs {needed} spare ids of the vocabulary"
            )

    @property
    def hidden_size(self) -> int:
        return self.encoder.hidden_size

    @property
    def embedding_size(self) -> int:
        """Width of the word embeddings; ELECTRA's may be narrower than its hidden states."""
        return getattr(self.encoder, "embedding_size", self.encoder.hidden_size)

    @property
    def vocab_size(self) -> int:
        return self.encoder.vocab_size

    @vocab_size.setter
    def vocab_size(self, words: int):
        self.encoder.vocab_size = words

    @property
    def initializer_range(self) -> float:
        return self.encoder.initializer_range

    @property
    def prefix_length(self) -> int:
        """P: how many positions of the encoder's input the demultiplexer takes for itself."""
        return len(self.prefix_token_ids) - 1 if self.demultiplexer == "prefix" else 0

    @property
    def max_tokens(self) -> int | None:
        """Tokens of the longest row: the encoder's positions less the prefix. None: any number."""
        positions = getattr(self.encoder, "max_position_embeddings", None)
        if self.padded_length or positions is None:
            return self.padded_length
        reserved = self.encoder.pad_token_id + 1 if self.encoder.model_type == "roberta" else 0
        return positions - reserved - self.prefix_length

    @property
    def summary_position(self) -> int:
        """Where a classifier reads: the first position that identifies no instance."""
        return self.num_instances if self.demultiplexer == "prefix" else 0


class PrunedBertConfig(PreTrainedConfig):
    """A BERT whose layers differ in size. BertConfig's values stay as they were before pruning.

    heads, intermediates: what is left of each layer's attention heads and of the width between its two
    feed-forward matrices. 0: the layer has no such part, and its input passes by.

    Raises ValueError for lists that do not fit the layers.
    """

    model_type = "pruned-bert"

    heads: list[int] | None = None
    intermediates: list[int] | None = None
    # BertConfig's own, from which this class cannot inherit: transformers may be importing it now.
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    is_decoder: bool = False
    add_cross_attention: bool = False

    def __post_init__(self, **kwargs):
        # Imported late: its classes are BERT's, which transformers may be importing when this module is.
        from muxplm.models.pruned import PrunedBertModel  # noqa: F401  (registers what it is for)

        super().__post_init__(**kwargs)
        layers = self.num_hidden_layers
        for name, most in (
            ("heads", self.num_attention_heads),
            ("intermediates", self.intermediate_size),
        ):
            sizes = getattr(self, name)
            if sizes is None:
                setattr(self, name, [most] * layers)
            elif len(sizes) != layers or not all(0 <= size <= most for size in sizes):
                raise ValueError(f"{name} is {sizes}: it must be {layers} numbers from 0 to {most}")


AutoConfig.register(MuxConfig.model_type, MuxConfig)
AutoConfig.register(PrunedBertConfig.model_type, PrunedBertConfig)
