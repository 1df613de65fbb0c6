"""muxplm: data multiplexing for high-throughput language models (arXiv 2302.12441).

After `import muxplm`, transformers' Auto classes know the model type "muxplm".
"""

import wrapt

# Registered as soon as transformers' own registries are loaded (at once if they are already): planning
# the workflow imports this package too, and must not wait seconds for torch.


@wrapt.when_imported("transformers.models.auto.configuration_auto")
def _register_config(auto):
    from muxplm.models.configuration import MuxConfig

    auto.AutoConfig.register("muxplm", MuxConfig)


@wrapt.when_imported("transformers.models.auto.modeling_auto")
def _register_models(auto):
    from muxplm.models import modeling

    auto.AutoModel.register(modeling.MuxConfig, modeling.MuxModel)
    auto.AutoModelForMaskedLM.register(modeling.MuxConfig, modeling.MuxForMaskedLM)
    auto.AutoModelForPreTraining.register(modeling.MuxConfig, modeling.MuxForPreTraining)
    auto.AutoModelForSequenceClassification.register(
        modeling.MuxConfig, modeling.MuxForSequenceClassification
    )
    auto.AutoModelForTokenClassification.register(
        modeling.MuxConfig, modeling.MuxForTokenClassification
    )
