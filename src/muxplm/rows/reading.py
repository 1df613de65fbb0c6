"""Reading a file of rows, a window at a time."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from muxplm.files import DataError, in_one_line

LARGEST_FIELD = 2**24  # characters; a quote that nothing closes should not swallow a whole file


class Row(NamedTuple):
    """A row of a .csv or .jsonl; the first is number 1, and `line` is what stands in the file."""

    number: int
    line: str
    fields: dict


@dataclass
class Window:
    """Consecutive rows, the first of them number `first`.

    texts: a list for each column that is read. table: makes a table of all columns. rows: as they stand
    in a .csv, below its heading, or a .jsonl.
    """

    first: int
    texts: list[list[str]]
    table: Callable[[], pa.Table]
    rows: list[Row] | None = None
    heading: str = ""

    def __len__(self):
        return len(self.texts[0])


def read(path: Path, columns: list[str], added: list[str], size: int) -> Iterator[Window]:
    """The rows of a file, `size` at a time; each has text in `columns`, and none has one of `added`.

    DataError, which names the row, for a file that cannot be read to its end. Rows count from 1; a
    CSV's heading is none, nor is an empty line, which is left out.
    """
    kinds, empty = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}, True
    try:
        for window in kinds[path.suffix](path, columns, added, size):
            empty = False
            yield window
    except FileNotFoundError:
        raise DataError(f"{path} is missing: correct the name") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({in_one_line(error)}): replace it") from None
    if empty:
        raise DataError(f"{path} has no rows: there is nothing to answer")


def _read_jsonl(path, columns, added, size):
    rows, names = _objects(path, columns, added), None
    while some := list(islice(rows, size)):
        names = names or list(some[0].fields)
        table = partial(_json_table, path, names, some)
        yield Window(some[0].number, _texts(path, some, columns), table, some)


def _read_csv(path, columns, added, size):
    records = _records(path)
    heading, names = next(records, ("", None))
    if names:
        _check_heading(path, names, columns, added)
    rows = _numbered(path, names, records)
    while some := list(islice(rows, size)):
        table = partial(_csv_table, names, some)
        yield Window(some[0].number, _texts(path, some, columns), table, some, heading)


def _read_parquet(path, columns, added, size):
    with pq.ParquetFile(path) as file:
        schema, first = file.schema_arrow, 1
        _check_heading(path, schema.names, columns, added)
        for table in _sized(file.iter_batches(size), size):
            texts = [values_of(path, first, column, table[column]) for column in columns]
            for column, values in zip(columns, texts, strict=True):
                for number, text in enumerate(values, first):
                    _check_text(path, number, column, text)
            yield Window(first, texts, partial(pa.table, table))
            first += len(table)


def _check_heading(path, names, columns, added):
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} has two columns {twice[0]!r}: rename one")
    _check_names(path, names, columns, added)


def _check_names(where, names, columns, added):
    for column in columns:
        if column not in names:
            raise DataError(f"{where} has no column {column!r}; it has {', '.join(names)}")
    for name in added:
        if name in names:
            raise DataError(f"{where} has a column {name!r} already: rename it")


def _check_text(path, number, column, text):
    if not (isinstance(text, str) and text.strip()):
        raise DataError(f"{path}: row {number} has no text in column {column!r}")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell one: "\ud800"
        raise DataError(f"{path}: row {number} has half a character in {column!r}") from None


def _texts(path, rows, columns):
    texts = [[row.fields[column] for row in rows] for column in columns]
    for column, values in zip(columns, texts, strict=True):
        for row, text in zip(rows, values, strict=True):
            _check_text(path, row.number, column, text)
    return texts


def _lines(path) -> Iterator[str]:
    """The lines of a text file, each with its end."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                raise DataError(f"{path}: line {number} is not UTF-8: save it as UTF-8") from None


# --- JSONL -------------------------------------------------------------------------------------


def _unique(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


# Numbers are never read, only handed on: one of 10 000 digits must not raise.
DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=float)
SPACE = re.compile(r"[ \t\r\n]*")


def _objects(path, columns, added) -> Iterator[Row]:
    for number, line in enumerate(filter(str.strip, _lines(path)), 1):
        try:
            fields = DECODER.decode(line.removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: row {number} is no JSON ({in_one_line(error)})") from None
        if not isinstance(fields, dict):
            raise DataError(f"{path}: row {number} is no JSON object: write {{...}} on each line")
        _check_names(f"{path}: row {number}", fields, columns, added)
        yield Row(number, line, fields)


def _json_table(path, names, rows) -> pa.Table:
    found = []
    for row in rows:
        if row.fields.keys() != set(names):
            raise DataError(
                f"{path}: row {row.number} has the keys {', '.join(row.fields)} and row 1 "
                f"{', '.join(names)}: answer it into a .jsonl"
            )
        found.append(_spelt(row.line))
    try:
        return _text_table({name: [fields[name] for fields in found] for name in names})
    except UnicodeEncodeError:
        raise DataError(
            f"{path}: rows {rows[0].number} to {rows[-1].number} hold half a character: "
            "answer it into a .jsonl"
        ) from None


def _spelt(line: str) -> dict:
    """The fields of a JSON object: strings as they read, null as None, all else as it is spelt."""
    fields, at = {}, SPACE.match(line, line.index("{") + 1).end()
    while line[at] != "}":
        name, at = DECODER.raw_decode(line, at)
        start = SPACE.match(line, line.index(":", at) + 1).end()
        value, end = DECODER.raw_decode(line, start)
        fields[name] = value if isinstance(value, str | None) else line[start:end]
        at = SPACE.match(line, end).end()
        if line[at] == ",":
            at = SPACE.match(line, at + 1).end()
    return fields


# --- CSV ---------------------------------------------------------------------------------------


def _records(path) -> Iterator[tuple[str, list[str]]]:
    """The records of a CSV, its heading first: as they stand (a quoted line break too), and read."""
    csv.field_size_limit(LARGEST_FIELD)
    taken = []

    def lines():
        for number, line in enumerate(_lines(path)):
            taken.append(line)
            yield line if number else line.removeprefix("\ufeff")

    reader, begun = csv.reader(lines(), strict=True), 1
    try:
        for fields in reader:
            if fields:
                yield "".join(taken), fields
            taken.clear()
            begun = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: line {begun} begins no CSV row ({error}): mend its quotes"
        ) from None


def _numbered(path, names, records) -> Iterator[Row]:
    for number, (line, fields) in enumerate(records, 1):
        if len(fields) != len(names):
            raise DataError(
                f"{path}: row {number} has {len(fields)} fields and the heading {len(names)}: "
                "put quotes around a text that has a comma"
            )
        yield Row(number, line, dict(zip(names, fields, strict=True)))


def _csv_table(names, rows) -> pa.Table:
    return _text_table({name: [row.fields[name] for row in rows] for name in names})


def _text_table(columns: dict) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


# --- Parquet -----------------------------------------------------------------------------------


def _sized(batches, size) -> Iterator[pa.Table]:
    """Tables of `size` rows: pyarrow's batches may end where a row group does."""
    held = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= size:
            table = pa.Table.from_batches(held)
            yield table[:size]
            held = table[size:].to_batches()
    if any(map(len, held)):
        yield pa.Table.from_batches(held)


def values_of(path, first, name, column) -> list:
    """The values of a column whose first row is number `first`."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for number, value in enumerate(column, first):
            try:
                value.as_py()
            except UnicodeDecodeError:
                raise DataError(f"{path}: row {number} is not UTF-8 in column {name!r}") from None
        raise
