"""muxplm: data multiplexing for high-throughput language models (arXiv 2302.12441).

After `import muxplm`, transformers' Auto classes know the model type "muxplm".
"""

from importlib import import_module

import wrapt

# These modules register their classes when they are imported. That happens as soon as transformers' own
# registries are loaded (at once if they are already), and not before: planning the workflow imports
# this package too, and must not wait seconds for torch.


@wrapt.when_imported("transformers.models.auto.configuration_auto")
def _register_config(_):
    import_module("muxplm.models.configuration")


@wrapt.when_imported("transformers.models.auto.modeling_auto")
def _register_models(_):
    import_module("muxplm.models.modeling")


@wrapt.when_imported("transformers.pipelines")
def _register_pipelines(_):
    import_module("muxplm.pipelines")
