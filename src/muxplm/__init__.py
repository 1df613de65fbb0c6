"""muxplm: data multiplexing for high-throughput language models (arXiv 2302.12441).

After `import muxplm`, transformers' Auto classes know the model type "muxplm".
"""

import wrapt


@wrapt.when_imported("transformers")
def _register_models(transformers):
    # At once if transformers is loaded already, else as soon as it is: planning the workflow imports
    # this package too, and must not wait seconds for torch.
    import muxplm.models  # noqa: F401
