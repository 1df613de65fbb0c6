"""Where rows and documents come from: the Hub, a local folder or the synthetic language.

All three give the same thing: `load_task` rows that are checked and hold nothing but the task's
columns, `documents` plain text. A fault in the data is a `DataError` of one sentence that names the
file (or data set), the row (counted from 0), the column and the fix.
"""

import contextlib
import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muxplm import hub
from muxplm.data import synthetic
from muxplm.files import DataError
from muxplm.settings import Settings
from muxplm.tasks import TASKS, Task

SAMPLE_SEED = 20230224  # which rows max_train_rows and max_validation_rows keep


# --- Tasks -------------------------------------------------------------------------------------


def load_task(name: str, split: str, settings: Settings) -> dict[str, pa.Table]:
    """One split of a task, checked: "train", or "validation" (mnli: with "validation_mismatched").

    Columns are the task's text columns and its label: strings (or lists of them, for tagging), and
    integer codes in the order of `Task.labels` (lists of them, for tagging; floats for regression).
    Raises DataError.
    """
    task = TASKS[name]
    read = {"hub": _hub_task, "local": _local_task, "synthetic": _synthetic_task}
    found = read[settings.data.source](task, settings, hub.SPLITS[split])
    limit = getattr(settings.data, f"max_{split}_rows")
    return {
        part: _sample(task, _checked(task, raw, place), limit)
        for part, (place, raw) in found.items()
    }


def _hub_task(task: Task, settings: Settings, parts):
    repo = hub.pinned(hub.TASKS[task.name], settings.data.revisions)
    found = _from_hub(repo)
    found = {part.removesuffix("_matched"): data.data.table for part, data in found.items()}
    if parts[0] not in found:
        raise DataError(f"{repo} has no split {parts[0]!r}: correct {hub.__name__}.TASKS")
    found = {part: found[part] for part in parts if part in found}
    for part in found if repo.skip else ():
        skipped = pc.is_in(found[part]["idx"], pa.array(repo.skip))
        found[part] = found[part].filter(pc.invert(skipped))
    return {part: (f"{repo} {part}", data) for part, data in found.items()}


def _local_task(task: Task, settings: Settings, parts):
    folder = _local_folder(settings)
    files = {part: folder / hub.local_file(task.name, part) for part in parts}
    # Only one task has a second validation split.
    kept = {part: file for part, file in files.items() if part == parts[0] or file.exists()}
    return {part: (str(file), _read(file)) for part, file in kept.items()}


def _synthetic_task(task: Task, settings: Settings, parts):
    size = settings.data.synthetic
    if task.name not in size.train_rows:
        raise DataError(
            f"data.synthetic.train_rows.{task.name} is missing: say how many rows to make"
        )
    train = size.train_rows[task.name]
    # The validation rows are those that the training rows left over; the reverse does not hold.
    validation = size.validation_rows if "train" not in parts else 1
    try:
        made = synthetic.task(task.name, train, validation, size.seed)
    except ValueError as error:  # more rows than the grammar can tell apart
        raise DataError(
            f"the synthetic {error}: lower data.synthetic.train_rows.{task.name} or "
            "data.synthetic.validation_rows"
        ) from None
    made = {part.removesuffix("_matched"): columns for part, columns in made.items()}
    return {
        part: (f"the synthetic {task.name} {part}", pa.table(made[part]))
        for part in parts
        if part in made
    }


def _checked(task: Task, data: pa.Table, place: str) -> dict[str, list]:
    """The task's columns as lists, labels as codes; or DataError at the first fault."""
    _check_columns(task, data, place)
    columns = {column: _values(data, column, place) for column in (*task.columns, task.label)}
    if _type_of(data, task.label) == "list of text":
        codes = {name: code for code, name in enumerate(task.labels)}
        # An unknown name stays as it is, for _label_fault to report.
        columns[task.label] = [
            [codes.get(tag, tag) for tag in tags or ()] for tags in columns[task.label]
        ]
    for row, (*texts, label) in enumerate(zip(*columns.values(), strict=True)):
        for column, text in zip(task.columns, texts, strict=True):
            if _is_empty(text):
                raise DataError(
                    f"{place}: row {row}, column {column!r} is empty: fill it in or drop the row"
                )
        if fault := _label_fault(task, label, texts[0]):
            raise DataError(f"{place}: row {row}, column {task.label!r} {fault}")
    return columns


def _values(data: pa.Table, column: str, place: str) -> list:
    try:
        return data[column].to_pylist()
    except UnicodeDecodeError:
        for row, value in enumerate(data[column]):
            try:
                value.as_py()
            except UnicodeDecodeError:
                raise DataError(
                    f"{place}: row {row}, column {column!r} is not UTF-8: write it as UTF-8"
                ) from None
        raise


def _check_columns(task: Task, data: pa.Table, place: str):
    text_type = "list of text" if task.kind == "tagging" else "text"
    label_types = {
        "classification": ["integer"],
        "regression": ["real number", "integer"],
        "tagging": ["list of integer", "list of text"],
    }[task.kind]
    if not len(data):
        raise DataError(f"{place} has no rows: add some, or leave {task.name} out of tasks")
    for column in (*task.columns, task.label):
        if column not in data.column_names:
            raise DataError(
                f"{place}: column {column!r} is missing: rename one of "
                f"{', '.join(data.column_names)} or add it"
            )
        types = label_types if column == task.label else [text_type]
        if _type_of(data, column) not in types:
            raise DataError(
                f"{place}: column {column!r} holds {_type_of(data, column)}: "
                f"write it as {' or '.join(types)}"
            )
    # Codes mean what the Hub's class names say, where they are given.
    names = _class_names(data, task.label)
    if names is not None and tuple(names) != task.labels:
        raise DataError(
            f"{place}: column {task.label!r} numbers its classes as {', '.join(names)}: "
            f"renumber them as {', '.join(task.labels)}"
        )


def _is_empty(text) -> bool:
    """Of a text or a list of tokens: nothing there, or an empty token among them."""
    parts = text if isinstance(text, list) else [text]
    return not parts or not all(part and part.strip() for part in parts)


def _label_fault(task: Task, label, text) -> str | None:
    """What is wrong with one row's label and how to put it right; None if it is fine."""
    if task.kind == "regression":
        # A comparison with NaN is false, so NaN is a fault too.
        low, high = task.bounds
        fine = label is not None and low <= label <= high
        return None if fine else f"is {label}, not in {low}..{high}: correct it or drop the row"
    if task.kind == "classification" and label == -1:
        return "is -1, GLUE's mark of a hidden test label: use the train and validation splits"
    tags = (label or []) if task.kind == "tagging" else [label]
    if task.kind == "tagging" and len(tags) != len(text):
        return f"has {len(tags)} tags for {len(text)} tokens: tag every token once"
    for tag in tags:
        if not (isinstance(tag, int) and 0 <= tag < len(task.labels)):
            return f"holds {tag!r}, not a class in 0..{len(task.labels) - 1}: correct it"
    return None


def _class_names(data: pa.Table, column: str) -> list[str] | None:
    """As `datasets` notes them beside a table, for a class or for a list of classes."""
    noted = json.loads((data.schema.metadata or {}).get(b"huggingface", "{}"))
    feature = noted.get("info", {}).get("features", {}).get(column, {})
    feature = feature[0] if isinstance(feature, list) else feature  # [{...}]: older releases' lists
    return feature.get("feature", feature).get("names")


def _type_of(data: pa.Table, column: str) -> str:
    return _type_name(data.schema.field(column).type)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_type_name(kind.value_type)}"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_integer(kind):
        return "integer"
    return "real number" if pa.types.is_floating(kind) else str(kind)


def _sample(task: Task, columns: dict[str, list], limit: int | None) -> pa.Table:
    """All rows, or the first `limit` of them in a shuffled order that is always the same."""
    rows = len(columns[task.label])
    if limit is not None and limit < rows:
        order = np.random.default_rng(SAMPLE_SEED).permutation(rows)[:limit]
        columns = {column: [values[row] for row in order] for column, values in columns.items()}
    text, label = pa.string(), pa.int64() if task.labels else pa.float32()
    if task.kind == "tagging":
        text, label = pa.list_(text), pa.list_(label)
    types = dict.fromkeys(task.columns, text) | {task.label: label}
    return pa.table({name: pa.array(columns[name], kind) for name, kind in types.items()})


# --- Pre-training text -------------------------------------------------------------------------


def documents(settings: Settings, split: str) -> Iterator[str]:
    """The documents of split "train" or "validation" (pre-training), or "muxology" (`muxology_text`).

    Never all in memory. `data.max_documents` caps the first two together. Raises DataError on first
    use.
    """
    if split == "muxology":
        yield from _not_blank(muxology_text(settings)[1])
        return
    of_split = {"train": False, "validation": True}[split]
    texts = {"hub": _hub_corpus, "local": _local_corpus, "synthetic": _synthetic_corpus}
    place, streams = texts[settings.data.source](settings)
    # In turn, so that a cap on documents does not leave whole files out.
    found = _not_blank(text for turn in zip_longest(*streams) for text in turn)
    any_found = False
    for text in islice(found, settings.data.max_documents):
        any_found = True
        # By the text itself: a document that occurs twice is never on both sides.
        is_validation = zlib.crc32(text.encode()) < settings.data.validation_fraction * 2**32
        if is_validation == of_split:
            yield text
    if not any_found:
        raise DataError(f"{place} holds no document: put text into its column 'text'")


def muxology_text(settings: Settings) -> tuple[str, Iterator[str]]:
    """What the muxology split is made of, and its documents.

    WikiText-103's validation split, as in section 6.2; where the source has none, the corpus's own.
    """
    if settings.data.source == "hub":
        return f"{hub.WIKITEXT} validation", _hub_documents(hub.WIKITEXT, "validation")
    if settings.data.source == "local":
        file = _local_folder(settings) / hub.LOCAL_WIKITEXT
        if file.exists():
            return str(file), _local_documents(file)
    return "the corpus's validation documents", documents(settings, "validation")


def _not_blank(texts: Iterable[str | None]) -> Iterator[str]:
    return (text for text in texts if text and text.strip())


def _hub_corpus(settings: Settings):
    # Streamed only for a few documents: each pass over a stream downloads everything anew.
    streaming = settings.data.max_documents is not None
    repos = [hub.pinned(repo, settings.data.revisions) for repo in hub.CORPUS]
    streams = [_hub_documents(repo, "train", streaming) for repo in repos]
    return " and ".join(map(str, repos)), streams


def _hub_documents(repo: hub.Repo, split: str, streaming: bool = False) -> Iterator[str]:
    texts = (row["text"] for row in _from_hub(repo, split=split, streaming=streaming))
    while rows := list(islice(texts, repo.rows_per_document)):
        yield "\n".join(rows)


def _local_corpus(settings: Settings):
    folder = _local_folder(settings) / hub.LOCAL_CORPUS
    files = [f for f in sorted(folder.glob("*.parquet")) if not f.name.startswith("wikitext103")]
    if not files:
        raise DataError(f"{folder} has no Parquet file of text: put one there, with column 'text'")
    return str(folder), [_local_documents(file) for file in files]


def _local_documents(file: Path) -> Iterator[str]:
    with _readable(file):
        parquet = pq.ParquetFile(file)
    schema = parquet.schema_arrow
    if "text" not in schema.names or _type_name(schema.field("text").type) != "text":
        raise DataError(f"{file} has no column 'text' of text: name the documents' column so")
    with _readable(file):
        for batch in parquet.iter_batches(batch_size=256, columns=["text"]):
            yield from _values(pa.table(batch), "text", str(file))


def _synthetic_corpus(settings: Settings):
    size = settings.data.synthetic
    return "the synthetic corpus", [synthetic.corpus(size.documents, size.seed)]


# --- Reading, with faults told in one sentence -------------------------------------------------


def _from_hub(repo: hub.Repo, **options):
    import datasets  # takes longer than all else that a task's rows need, and only the Hub needs it

    try:
        return datasets.load_dataset(repo.name, repo.config, revision=repo.revision, **options)
    except Exception as error:  # the Hub's client raises many kinds
        raise DataError(
            f"{repo} cannot be loaded from the Hub ({_line(error)}): check the network, or set "
            "data.source to local and data_folder to a folder that holds the files"
        ) from error


def _local_folder(settings: Settings) -> Path:
    folder = Path(settings.data_folder)
    if not folder.is_dir():
        raise DataError(f"data_folder {folder} is not a folder: correct --config data_folder=DIR")
    return folder


def _read(file: Path) -> pa.Table:
    with _readable(file):
        return pq.read_table(file)


@contextlib.contextmanager
def _readable(file: Path):
    """Turns what pyarrow raises about `file` into a DataError."""
    if not file.exists():
        raise DataError(f"{file} is missing: put it there, or leave out the tasks that need it")
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file} is not a readable Parquet file ({_line(error)}): fetch it again"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
