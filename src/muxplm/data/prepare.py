"""The tokenizer and the packed blocks, made before any training; the tasks' rows: `rows`.

Each fills its folder as a whole or not at all.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from muxplm.data.sources import documents, muxology_text
from muxplm.files import (
    DataError,
    as_written,
    atomic_folder,
    in_one_line,
    made,
    read_json,
    sha256,
    write_json,
)
from muxplm.settings import Settings

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# No token types: [SEP] tells the two texts of a pair apart.
MODEL_INPUTS = ["input_ids", "attention_mask"]
TOKENIZER_DOCUMENTS = 2_000_000  # more text does not change a vocabulary
# No word to a tokenizer, which gives up after 100 letters; its trainer would take hours over a million.
ENDLESS = re.compile(r"\w{1000,}")


# --- Tokenizer ---------------------------------------------------------------------------------


def prepare_tokenizer(settings: Settings):
    """Writes a WordPiece tokenizer: trained on the corpus, or `tokenizer.pretrained`."""
    wanted = settings.tokenizer
    if wanted.pretrained:
        tokenizer = _pretrained(wanted.pretrained, wanted.revision)
    else:
        vocabulary = _train_vocabulary(
            lambda: (
                ENDLESS.sub(" ", text)
                for text in islice(documents(settings, "train"), TOKENIZER_DOCUMENTS)
            ),
            wanted.vocab_size,
            SPECIAL + [f"[unused{i}]" for i in range(wanted.unused)],
            wanted.trim,
        )
        tokenizer = BertTokenizer(vocab=vocabulary, model_input_names=MODEL_INPUTS)
    with atomic_folder(Path(settings.paths.tokenizer).parent) as folder:
        tokenizer.save_pretrained(folder)


def read_tokenizer(settings: Settings) -> PreTrainedTokenizerBase:
    """The tokenizer that `prepare_tokenizer` wrote. Raises DataError if it is missing or damaged."""
    folder = made(settings.paths.tokenizer).parent
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raises Exception itself
        raise DataError(
            f"{folder} is damaged ({in_one_line(error)}): delete the folder and run again"
        ) from None


def _pretrained(name: str, revision: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(
            name, revision=revision, model_input_names=MODEL_INPUTS
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"tokenizer.pretrained {name} at {revision} cannot be loaded ({reason}): correct the "
            "name and tokenizer.revision, or set pretrained to null to train one"
        ) from error


def _train_vocabulary(read_texts, size: int, reserved: list[str], trim: bool) -> dict[str, int]:
    """A lower-case WordPiece vocabulary of about `size` entries, `reserved` first, id by token.

    trim: drop the entries into which the texts are never split, but for single characters.
    `read_texts()` gives the texts; it is called anew for each pass. The same texts give the same
    vocabulary.
    """
    backend = BertTokenizer().backend_tokenizer  # for its normaliser and its splitting into words
    characters = Counter()
    for text in read_texts():
        characters.update(backend.normalizer.normalize_str(text))
    # One character in 30 entries, as many as BERT has room for; rarer ones become [UNK].
    by_frequency = sorted(characters, key=lambda c: (-characters[c], c))
    alphabet = sorted([c for c in by_frequency if not c.isspace()][: max(100, size // 30)])
    # The trainer numbers "##a", "##b", ... in a random order and breaks ties between merges by
    # number, so that two runs differ (github.com/huggingface/tokenizers/issues/1794). Reserving
    # them too fixes their numbers. Punctuation never continues a word.
    split = backend.pre_tokenizer.pre_tokenize_str
    continuing = [f"##{c}" for c in alphabet if len(split(f"a{c}")) == 1]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=reserved + continuing,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(read_texts(), trainer)
    by_id = sorted(backend.get_vocab(), key=backend.token_to_id)
    if trim:
        # What is left over from merging is a third of a small vocabulary. Splitting is greedy, longest
        # entry first, so that without entries it never chose the texts are split as before.
        used = {*reserved, *continuing, *alphabet}
        for text in read_texts():
            used.update(backend.encode(text, add_special_tokens=False).tokens)
        by_id = [token for token in by_id if token in used]
    return {token: i for i, token in enumerate(by_id)}


# --- Blocks ------------------------------------------------------------------------------------


def prepare_blocks(settings: Settings):
    """Writes `train.bin`, `validation.bin` and `muxology.bin`: raw ids, `max_length` a block.

    A block is [CLS], a stretch of text, [SEP]. The stretches are the documents' lines one after
    another, each closed by [SEP]; what is left at the end and fills no block is dropped.
    """
    length = settings.max_length
    tokenizer = read_tokenizer(settings)
    dtype = "uint16" if len(tokenizer) <= 2**16 else "uint32"
    blocks = {}
    with atomic_folder(Path(settings.paths.blocks).parent) as folder:
        for split in ("train", "validation", "muxology"):
            stream = token_stream(tokenizer, documents(settings, split))
            with open(folder / f"{split}.bin", "wb") as file:
                blocks[split] = _write_blocks(file, stream, length, dtype, tokenizer)
            if not blocks[split]:
                raise DataError(
                    f"the {split} text fills no block of max_length {length}: "
                    f"{_more_text(settings, split)} or lower max_length"
                )
        manifest = {
            "dtype": dtype,
            "block_length": length,
            "blocks": blocks,
            "tokens": {split: n * (length - 2) for split, n in blocks.items()},
            "muxology": muxology_text(settings)[0],
            "tokenizer_sha256": sha256(settings.paths.tokenizer),
            "sha256": {split: sha256(folder / f"{split}.bin") for split in blocks},
        }
        write_json(folder / "manifest.json", manifest)


def read_blocks(settings: Settings, split: str) -> np.memmap:
    """The blocks of one split, read from disk as needed: integers of shape (blocks, length)."""
    manifest = read_json(settings.paths.blocks)
    file = Path(settings.paths.blocks).with_name(f"{split}.bin")
    with as_written(settings.paths.blocks):
        shape = (manifest["blocks"][split], manifest["block_length"])
        dtype, checksum = np.dtype(manifest["dtype"]), manifest["sha256"][split]
    try:
        if sha256(file) != checksum:
            raise ValueError("its checksum is another one")
        return np.memmap(file, dtype, mode="r", shape=shape)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is broken ({error}): delete its folder and run again") from error


def token_stream(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Iterator[list[int]]:
    """The ids of each line (a paragraph) of the texts, closed by [SEP].

    A [SEP] then mostly stands between texts that belong together, as it does in the pair tasks. With
    one between unrelated documents only, a small model learns not to look across it.
    """
    lines = (line for text in texts for line in text.splitlines() if line.strip())
    while batch := list(islice(lines, 1024)):
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            yield [*ids, tokenizer.sep_token_id]


def _more_text(settings: Settings, split: str) -> str:
    if split == "muxology":
        return f"put more text into {muxology_text(settings)[0]}"
    more = {
        "synthetic": "raise data.synthetic.documents",
        "local": f"put more text into {settings.data_folder}/corpus",
        "hub": "raise data.max_documents",
    }[settings.data.source]
    return more if split == "train" else f"{more}, raise data.validation_fraction"


def _write_blocks(file, stream, length: int, dtype: str, tokenizer) -> int:
    """Writes the stream block by block and returns how many there were."""
    body, pending, written = length - 2, [], 0
    for ids in stream:
        pending += ids
        full = len(pending) // body
        if full:
            blocks = np.empty((full, length), dtype)
            blocks[:, 0], blocks[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
            blocks[:, 1:-1] = np.reshape(pending[: full * body], (full, body))
            file.write(blocks.data)  # tofile() would not notice a full disk
            pending, written = pending[full * body :], written + full
    return written
