"""Sentences through a primed model, and what it reads back of each.

Shapes: R rows of L tokens in B groups of N, H wide, V words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer

from muxplm import experiments
from muxplm.data.prepare import read_tokenizer
from muxplm.files import DataError, in_one_line
from muxplm.models.build import check_vocabulary, load_model
from muxplm.settings import Settings

VARIANT = experiments.DEMO.name
SHIPPED = Path(__file__).with_name("model")
SENTENCES = Path(__file__).with_name("sentences.txt")
NAMED = 5  # lines that a complaint names

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@dataclass(frozen=True)
class Reading:
    """A sentence, what was read in its place, and the words that the vocabulary has not."""

    sentence: str
    read: str
    exact: bool  # each word is back
    unknown: list[str]


@dataclass(frozen=True)
class Pass:
    """What one pass read of up to N sentences, and how many vectors the encoder saw, how wide."""

    readings: list[Reading]
    rows: int
    length: int
    width: int


def primed_of(settings: Settings) -> Path | None:
    """The folder in which a run has primed the demo's model; None if it has not."""
    if VARIANT not in settings.variants:
        return None
    done = Path(settings.paths.checkpoint("prime", VARIANT))
    return done.parent if done.exists() else None


def load(settings: Settings | None = None):
    """Model, tokenizer and folder: of the run that `settings` describe, or else as shipped.

    DataError if the run's model or tokenizer is damaged.
    """
    own = primed_of(settings) if settings else None
    folder = own or SHIPPED
    tokenizer = read_tokenizer(settings) if own else AutoTokenizer.from_pretrained(SHIPPED)
    model = load_model("retrieval", folder).eval()  # in float32, whatever the weights are kept in
    check_vocabulary(model, tokenizer, folder)
    return model, tokenizer, folder


def sentences_of(file: Path, model, tokenizer) -> list[str]:
    """The lines of a file that are not blank.

    DataError if there are none, or if the model does not take one of them: it has too many tokens, or
    no word.
    """
    try:
        # Not splitlines(), whose lines are not an editor's.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({in_one_line(error)}): name a text file") from None
    found = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    if not found:
        raise DataError(f"{file} holds no sentence: write one a line")
    ids = tokenizer(list(found.values()), verbose=False)["input_ids"]
    lengths = dict(zip(found, map(len, ids), strict=True))
    special, limit = tokenizer.num_special_tokens_to_add(), model.config.max_tokens
    if empty := [number for number, length in lengths.items() if length == special]:
        raise DataError(f"{file}, {_lines(empty)}: no word there: delete it")
    if long := [number for number, length in lengths.items() if length > limit]:
        raise DataError(
            f"{file}, {_lines(long)}: more than the {limit} tokens that the model takes, [CLS] and "
            "[SEP] included: shorten it"
        )
    return list(found.values())


def _lines(numbers: list[int]) -> str:
    named = ", ".join(map(str, numbers[:NAMED]))
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"line{'s' if len(numbers) > 1 else ''} {named}{more}"


def read_back(model, tokenizer, sentences: list[str]) -> Iterator[Pass]:
    """Sentences in their order, N a pass; the model completes the last group by its own rows."""
    n = model.config.num_instances
    for first in range(0, len(sentences), n):
        yield read_group(model, tokenizer, sentences[first : first + n])


@torch.inference_mode()
def read_group(model, tokenizer, sentences: list[str]) -> Pass:
    """Up to N sentences in one pass: B = 1."""
    batch = tokenizer(sentences, padding=True, return_special_tokens_mask=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]  # (R, L) each
    output = model(ids, mask, output_hidden_states=True)
    predicted = output.logits.argmax(dim=-1)  # (R, L, V) -> (R, L)
    rows, length, width = output.hidden_states[0].shape  # what the encoder saw: (1, L, H)
    readings = []
    for i, sentence in enumerate(sentences):
        words = batch["special_tokens_mask"][i] == 0  # (L,): neither [CLS], [SEP] nor padding
        places = zip(ids[i].tolist(), batch[i].offsets, strict=True)
        unknown = [sentence[a:b] for token, (a, b) in places if token == tokenizer.unk_token_id]
        same = torch.equal(predicted[i, words], ids[i, words])
        read = tokenizer.decode(predicted[i, words])
        readings.append(Reading(sentence, read, same and not unknown, unknown))
    return Pass(readings, rows, length, width)
