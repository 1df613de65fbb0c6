"""Multiplexed models; importing this package registers them with transformers' Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from muxplm.models.configuration import MuxConfig
from muxplm.models.modeling import (
    MuxForMaskedLM,
    MuxForPreTraining,
    MuxForSequenceClassification,
    MuxForTokenClassification,
    MuxForTokenRetrieval,
    MuxModel,
)

AutoConfig.register("muxplm", MuxConfig)
AutoModel.register(MuxConfig, MuxModel)
AutoModelForMaskedLM.register(MuxConfig, MuxForMaskedLM)
AutoModelForPreTraining.register(MuxConfig, MuxForPreTraining)
AutoModelForSequenceClassification.register(MuxConfig, MuxForSequenceClassification)
AutoModelForTokenClassification.register(MuxConfig, MuxForTokenClassification)

__all__ = [
    "MuxConfig",
    "MuxForMaskedLM",
    "MuxForPreTraining",
    "MuxForSequenceClassification",
    "MuxForTokenClassification",
    "MuxForTokenRetrieval",
    "MuxModel",
]
