"""`muxplm predict`: a file of texts through a model, to a file of answers, in constant memory."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm
from transformers import AutoConfig, pipeline

from muxplm.files import DataError
from muxplm.models.build import check_vocabulary
from muxplm.precision import autocast

FORMATS = (".jsonl", ".csv", ".parquet")
TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
WINDOW = 16  # batches that are read, composed and written together


def predict(model, source, output, columns, batch_size, precision, composition_seed, copies):
    """Writes `output`: the rows of `source` with `prediction` and `score`, or a tagger's `entities`.

    columns: the column of the text, or those of a text and its pair.
    composition_seed, copies: as in `muxplm.pipelines`; a seed shuffles a window of WINDOW batches.
    Raises DataError, and leaves no output, for input that cannot be read to its end.
    """
    source, output = Path(source), Path(output)
    for path in (source, output):
        if path.suffix not in FORMATS:
            raise DataError(f"{path} is none of {', '.join(FORMATS)}: convert or rename it")
    answer = load(model, columns)
    grouping = {"composition_seed": composition_seed, "copies": copies, "batch_size": batch_size}
    draft = output.with_name(f".{output.name}.draft")
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tqdm(unit=" rows", disable=not sys.stderr.isatty()) as bar,
            writer(draft, output) as write,
        ):
            for frame in read(source, columns, batch_size * WINDOW):
                with autocast(precision, answer.device.type):
                    found = answer(_texts(frame, columns), **grouping)
                write(_joined(frame, _answers(found), source))
                bar.update(len(frame))
        os.replace(draft, output)
    finally:
        draft.unlink(missing_ok=True)


def load(folder, columns):
    """The pipeline that the model in `folder` was fine-tuned for. Texts too long for it are cut."""
    try:
        title = (AutoConfig.from_pretrained(folder).architectures or ["model"])[0]
        kinds = [task for end, task in TASKS.items() if title.endswith(end)]
        device = 0 if torch.cuda.is_available() else "cpu"
        # A tagger's pipeline cuts unasked.
        cut = {"truncation": True} if kinds == ["text-classification"] else {}
        settings = {"device": device, "dtype": torch.float32, **cut}
        found = pipeline(kinds[0], str(folder), **settings) if kinds else None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{folder} holds no model with its tokenizer ({reason})") from None
    if not kinds:
        raise DataError(f"{folder} holds a {title}, which predicts no labels")
    if kinds[0] == "token-classification" and len(columns) > 1:
        raise DataError(f"{folder} tags tokens: name one text column, not {len(columns)}")
    check_vocabulary(found.model, found.tokenizer, folder)
    return found


def read(source: Path, columns, size: int) -> Iterator[pd.DataFrame]:
    """The rows of a file, `size` at a time; each has text in every one of `columns`."""
    start = 0
    try:
        for frame in _frames(source, columns, size):
            for column in columns:
                if column not in frame:
                    names = ", ".join(map(str, frame))
                    raise DataError(f"{source} has no column {column!r}; it has {names}")
                empty = ~frame[column].map(
                    lambda text: isinstance(text, str) and bool(text.strip())
                )
                if empty.any():
                    row = start + int(empty.to_numpy().argmax()) + 1
                    raise DataError(f"{source}: row {row} has no text in column {column!r}")
            if len(frame):
                yield frame
            start += len(frame)
    except FileNotFoundError:
        raise DataError(f"{source} is missing") from None
    except (pa.ArrowInvalid, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source} is damaged ({' '.join(str(error).split())[:160]})") from None
    if not start:
        raise DataError(f"{source} has no rows")


def _frames(source, columns, size):
    if source.suffix == ".jsonl":
        return pd.read_json(source, lines=True, chunksize=size, dtype=False)
    if source.suffix == ".csv":
        # A text may well be "NA" or "1".
        return pd.read_csv(
            source, chunksize=size, dtype=dict.fromkeys(columns, str), keep_default_na=False
        )
    return (batch.to_pandas() for batch in pq.ParquetFile(source).iter_batches(size))


def _texts(frame, columns) -> list:
    texts = [frame[column].tolist() for column in columns]
    if len(texts) == 1:
        return texts[0]
    return [{"text": a, "text_pair": b} for a, b in zip(*texts, strict=True)]


def _answers(found: list) -> dict[str, list]:
    if isinstance(found[0], dict):
        labels, scores = ([answer[key] for answer in found] for key in ("label", "score"))
        return {"prediction": labels, "score": scores}
    return {"entities": [json.dumps(entities, default=float) for entities in found]}


def _joined(frame, answers: dict, source):
    if taken := [name for name in answers if name in frame]:
        raise DataError(f"{source} has a column {taken[0]!r} already: rename it")
    return frame.assign(**answers)


@contextlib.contextmanager
def writer(draft: Path, output: Path):
    """Yields a function that appends a frame to `draft` in the format of `output`'s name."""
    opened = []

    def write_parquet(frame):
        schema = opened[0].schema if opened else None
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        if not opened:
            opened.append(pq.ParquetWriter(draft, table.schema))
        opened[0].write_table(table)

    def write_csv(frame):
        frame.to_csv(draft, mode="a", header=not draft.exists(), index=False)

    def write_jsonl(frame):
        frame.to_json(draft, mode="a", orient="records", lines=True, force_ascii=False)

    draft.unlink(missing_ok=True)
    yield {".parquet": write_parquet, ".csv": write_csv, ".jsonl": write_jsonl}[output.suffix]
    for file in opened:
        file.close()
