"""What a multiplexed model is made of, in the paper's words; models/released/ has the authors' own."""

from torch import nn

from muxplm.models.demultiplexers import DEMULTIPLEXERS
from muxplm.models.heads import LanguageModelHead, classifier
from muxplm.models.multiplexers import MULTIPLEXERS


class Dialect:
    """The paper's text; a subclass overrides what it does otherwise. A model chooses one, once.

    masks_padding: whether the encoder keeps from the positions at which all N instances have ended.
    cuts_rows: whether pre-training cuts a row's end to make room for the prefix.
    ends_prefix: whether a [CLS] of its own ends the prefix.
    """

    multiplexers = MULTIPLEXERS
    demultiplexers = DEMULTIPLEXERS
    language_model_head = LanguageModelHead
    classifier = staticmethod(classifier)
    masks_padding = True
    cuts_rows = False
    ends_prefix = False

    def multiplexer(self, config, of_sequences: bool) -> nn.Module:
        """of_sequences: whether it is for a head that classifies whole rows."""
        return self.multiplexers[config.multiplexer](config)

    def demultiplexer(self, config) -> nn.Module:
        return self.demultiplexers[config.demultiplexer](config)

    def embed(self, encoder, given):
        """Ids (rows, L) or word embeddings (rows, L, E) -> what is mixed, (rows, L, E).

        Here the word embeddings themselves: the encoder adds positions to the mixture.
        """
        return encoder.get_input_embeddings()(given) if given.ndim == 2 else given

    def read_back(self, demultiplexer, head, encoded, where=None):
        """What the language-model head scores: (B*N, L, H), or (M, H) at `where`."""
        return demultiplexer(encoded.hidden, encoded.prefix, where)
