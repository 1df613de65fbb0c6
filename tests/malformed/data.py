"""Data: each task's columns and rows, files that are none, the corpus, and what a step left."""

import random

import pyarrow as pa
import pyarrow.parquet as pq

from malformed import Case
from malformed.configs import written
from muxplm import hub
from muxplm.tasks import TASKS

LOCAL = "--config local.json"


def edited(name: str, edit):
    """A damage: the table's columns, a dict of lists, after `edit`."""

    def damage(folder):
        path = folder / name
        columns = pq.read_table(path).to_pydict()
        edit(columns)
        pq.write_table(pa.table(columns), path)

    return damage


def put(column, value, row=5):
    def edit(columns):
        columns[column][row] = value

    return edit


def renamed(column):
    def edit(columns):
        columns["other"] = columns.pop(column)

    return edit


def whole_column(column, make):
    def edit(columns):
        columns[column] = [make(value) for value in columns[column]]

    return edit


def not_utf8(name, column, row=5):
    """pyarrow writes such bytes where a column is said to be text."""

    def damage(folder):
        path = folder / name
        table = pq.read_table(path)
        bad = [str(value).encode() for value in table[column].to_pylist()]
        bad[row] = b"\xff\xfe bad"
        column_ = pa.array(bad, pa.binary()).view(pa.string())
        pq.write_table(table.set_column(table.column_names.index(column), column, column_), path)

    return damage


def not_utf8_words(name, column, row=5):
    def damage(folder):
        path = folder / name
        table = pq.read_table(path)
        rows = [[word.encode() for word in words] for words in table[column].to_pylist()]
        rows[row][0] = b"\xff\xfe"
        flat = pa.array([word for words in rows for word in words], pa.binary()).view(pa.string())
        offsets = [0]
        for words in rows:
            offsets.append(offsets[-1] + len(words))
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
        pq.write_table(table.set_column(table.column_names.index(column), column, lists), path)

    return damage


def cut(name: str, share: float):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return damage


def gone(name: str):
    return lambda folder: (folder / name).unlink()


def a_folder(name: str):
    def damage(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def file_damages(name: str, seed: int = 0):
    """What may become of any file."""
    garbage = random.Random(seed).randbytes(300)
    return {
        "missing": gone(name),
        "empty": written(name, b""),
        "cut to a third": cut(name, 0.3),
        "cut to nine tenths": cut(name, 0.9),
        "garbage": written(name, garbage),
        "a folder": a_folder(name),
    }


def cases():
    for task in TASKS.values():
        yield from _rows(task)
    corpus = f"mirror/{hub.LOCAL_CORPUS}/text.parquet"
    for what, damage in file_damages(corpus).items():
        for command in ("tokenizer", "blocks"):
            yield Case(
                f"corpus {what}: {command}",
                f"{command} {LOCAL}",
                ("corpus", "tokenizer.json"),
                damage,
            )
    for what, edit in {
        "renamed": renamed("text"),
        "numbers": whole_column("text", len),
        "lists": whole_column("text", lambda text: [text]),
        "bytes": whole_column("text", str.encode),
        "blank": whole_column("text", lambda text: " "),
        "nothing": whole_column("text", lambda text: None),
        "no rows": lambda columns: columns["text"].clear(),
    }.items():
        yield Case(f"corpus {what}", f"tokenizer {LOCAL}", ("corpus",), edited(corpus, edit))
    yield Case(
        "corpus not UTF-8", f"tokenizer {LOCAL}", ("text.parquet",), not_utf8(corpus, "text")
    )
    missing = written("local.json", {"data": {"source": "local"}, "data_folder": "nowhere"})
    for command in ("tokenizer", "task-data sst2 train"):
        yield Case(f"no folder: {command}", f"{command} {LOCAL}", ("nowhere",), missing)


def _rows(task):
    file, text, label = f"mirror/{hub.local_file(task.name, 'train')}", task.columns[0], task.label
    edits = {
        "no text": renamed(text),
        "no label": renamed(label),
        "no rows": lambda columns: [values.clear() for values in columns.values()],
        "labels are text": whole_column(label, lambda _: "yes"),
        "a label missing": put(label, None),
        "texts are numbers": whole_column(text, lambda _: 3),
        "a text missing": put(text, None),
    }
    if task.kind == "tagging":
        stranger = 99 if task.name == "ner" else "NONE"  # UPOS may stand there by name
        edits |= {
            "an empty word": lambda columns: columns[text][5].__setitem__(0, ""),
            "a tag too many": lambda columns: columns[label][5].append(columns[label][5][0]),
            "a tag too few": lambda columns: columns[label][5].pop(),
            "a tag unknown": lambda columns: columns[label][5].__setitem__(0, stranger),
            "a tag missing": lambda columns: columns[label][5].__setitem__(0, None),
            "no words": lambda columns: (columns[text][5].clear(), columns[label][5].clear()),
            "words in one": whole_column(text, " ".join),
            "one tag": whole_column(label, lambda tags: tags[0]),
        }
    else:
        edits |= {
            "a blank text": put(text, " \n"),
            "texts are lists": whole_column(text, lambda value: [value]),
        }
        if task.kind == "classification":
            edits |= {
                "a hidden label": put(label, -1),
                "a label too high": put(label, len(task.labels)),
                "a label far off": put(label, 2**40),
                "labels are real": whole_column(label, lambda value: value + 0.5),
                "labels are true": whole_column(label, bool),
            }
        else:
            edits |= {
                "a label not a number": put(label, float("nan")),
                "a label infinite": put(label, float("inf")),
                "a label too high": put(label, 5.1),
                "a label below 0": put(label, -0.1),
            }
    command = f"task-data {task.name} train {LOCAL}"
    for what, edit in edits.items():
        yield Case(f"{task.name}: {what}", command, (file,), edited(file, edit))
    for what, damage in file_damages(file).items():
        yield Case(f"{task.name}: {what}", command, (file,), damage)
    bad = not_utf8_words if task.kind == "tagging" else not_utf8
    yield Case(f"{task.name}: not UTF-8", command, (file,), bad(file, text))
    if len(task.columns) > 1:
        second = task.columns[1]
        for what, edit in {
            "no second": renamed(second),
            "an empty second": put(second, ""),
        }.items():
            yield Case(f"{task.name}: {what}", command, (file,), edited(file, edit))
