"""What the authors' checkpoints do otherwise than the paper's text: docs/dialects.md, line by line."""

from muxplm.models.dialect import Dialect
from muxplm.models.released.demultiplexers import DEMULTIPLEXERS
from muxplm.models.released.heads import ReleasedLanguageModelHead, classifier
from muxplm.models.released.multiplexers import MULTIPLEXERS

FINETUNING_LAYERS = 3


class ReleasedDialect(Dialect):
    multiplexers = MULTIPLEXERS
    demultiplexers = DEMULTIPLEXERS
    language_model_head = ReleasedLanguageModelHead
    classifier = staticmethod(classifier)
    masks_padding = False
    cuts_rows = True
    ends_prefix = True

    def multiplexer(self, config, of_sequences: bool):
        found = super().multiplexer(config, of_sequences)
        found.masks_instances = of_sequences  # for the contextual one
        return found

    def embed(self, encoder, given):
        """The complete embeddings, which the encoder embeds once more: positions and norm come twice."""
        ids = given.ndim == 2
        return encoder.embeddings(given) if ids else encoder.embeddings(inputs_embeds=given)

    def read_back(self, demultiplexer, head, encoded, where=None):
        if head.demultiplexer is None:
            return demultiplexer.retrieve(encoded.hidden, where)
        return head.demultiplexer(encoded.hidden, encoded.prefix, where)


def finetuning_changes(config) -> dict:
    """What the authors' fine-tuning sets anew in the config of a pre-trained multiplexed model.

    Whatever depth RSA was pre-trained with, it is fine-tuned with D = 3: the demultiplexer, which skips
    the last layer, then reads two. A layer that the checkpoint lacks is drawn fresh.
    """
    deepened = config.dialect == "released" and config.demultiplexer == "rsa"
    return {"demultiplexer_layers": FINETUNING_LAYERS} if deepened else {}
