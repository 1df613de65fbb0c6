"""The configuration of a multiplexed model: any transformers encoder, plus how N inputs share it."""

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


class MuxConfig(PreTrainedConfig):
    """`multiplexer -> encoder -> demultiplexer -> head`.

    num_instances: N, how many inputs go through the encoder as one.
    multiplexer, demultiplexer: names in the registries MULTIPLEXERS and DEMULTIPLEXERS.
    demultiplexer_layers: linear layers of the demultiplexer's MLP.
    prefix_token_ids: N + 1 vocabulary ids that only the prefix demultiplexer uses: one for each
        instance, and one that pads the prefix.
    retrieval_weight: weight of the token-retrieval loss beside the head's own, which gets the rest.
    encoder: the encoder's config, or its values as a dict with "model_type".

    Raises ValueError where the parts do not fit together.
    """

    model_type = "muxplm"
    sub_configs_defaults = {"encoder": SubConfigSpec(config_class=AutoConfig, model_type="bert")}

    num_instances: int = 2
    multiplexer: str = "hadamard"
    demultiplexer: str = "rsa"
    demultiplexer_layers: int = 2
    prefix_token_ids: list[int] | None = None
    retrieval_weight: float = 0.0
    classifier_dropout: float = 0.1
    encoder: PreTrainedConfig | dict | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.num_instances < 1:
            raise ValueError(f"num_instances is {self.num_instances}; it must be at least 1")
        given = len(self.prefix_token_ids or ())
        if self.demultiplexer == "prefix" and given != self.num_instances + 1:
            raise ValueError(
                f"prefix_token_ids holds {given} ids; a prefix demultiplexer for N = "
                f"{self.num_instances} needs {self.num_instances + 1} spare ids of the vocabulary"
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

    @property
    def initializer_range(self) -> float:
        return self.encoder.initializer_range

    @property
    def prefix_length(self) -> int:
        """How many positions of the encoder's input the demultiplexer takes for itself."""
        return self.num_instances if self.demultiplexer == "prefix" else 0


AutoConfig.register(MuxConfig.model_type, MuxConfig)
