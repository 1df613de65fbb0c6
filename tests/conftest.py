"""Small models shared by the tests. One thread each: on models this small more of them only wait."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start, too; before torch looks

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, BertTokenizerFast

import muxplm  # noqa: F401  (registers the model type)
from muxplm.models.configuration import PREFIX_IDS

VOCABULARY = 60
WORDS = [f"w{i}" for i in range(45)]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ENCODERS = ("bert", "electra", "modernbert", "roberta")


def pytest_collection_modifyitems(items):
    """Files that run the workflow come first: else one of two workers ends minutes after the other."""
    items.sort(key=lambda item: item.get_closest_marker("smoke") is None)


def make_config(encoder="bert", n=3, demultiplexer="rsa", **changes):
    """A multiplexed model's config: two layers, 16 wide (ELECTRA's embeddings 8)."""
    values = {
        "model_type": encoder,
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "pad_token_id": 0,
        "max_position_embeddings": 40,
    }
    if encoder == "electra":
        values["embedding_size"] = 8
    if encoder == "modernbert":
        values |= {f"{name}_token_id": 1 for name in ("bos", "eos", "cls", "sep")}
    spare = n + PREFIX_IDS[changes.get("dialect", "paper")]
    prefix = list(range(50, 50 + spare)) if demultiplexer == "prefix" else None
    return AutoConfig.for_model(
        "muxplm",
        encoder=values,
        num_instances=n,
        demultiplexer=demultiplexer,
        prefix_token_ids=prefix,
        **changes,
    )


def build(model_class, seed=0, **changes):
    """An evaluation-mode model whose weights are far from zero, so that nothing passes by luck."""
    torch.manual_seed(seed)
    model = model_class(make_config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture
def ids():
    """(7, 12) token ids: seven rows are no multiple of 2, 3 or 5."""
    return torch.randint(2, 50, (7, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask(ids):
    """Rows of different lengths."""
    lengths = torch.tensor([12, 5, 9, 12, 3, 7, 11])
    return (torch.arange(ids.shape[1]) < lengths[:, None]).long()


@pytest.fixture(scope="session")
def tokenizer():
    """Words of WORDS, no token types."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=raw, model_max_length=40)


def pytest_addoption(parser):
    parser.addoption("--every-input", action="store_true", help="all malformed inputs")
