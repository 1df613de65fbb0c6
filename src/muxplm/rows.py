"""Files of rows, .jsonl, .csv or .parquet: read a window at a time, handed on as they stand.

Into a file of its own kind a row goes as it is with the answer behind it: byte for byte or, in Parquet,
value for value. Into another kind it goes through a table. A Parquet file's table has the types of its
columns; that of a .csv or .jsonl has text alone, a JSON string as it reads and anything else as it is
spelt: any other type would make 7 of 007 and ...992 of 9007199254740993. What the other kind has no
room for is refused.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from muxplm.files import DataError

KINDS = (".jsonl", ".csv", ".parquet")
LARGEST_FIELD = 2**24  # characters; a quote that nothing closes should not swallow a whole file
ENTITY = {"entity": pa.string(), "score": pa.float64(), "word": pa.string()}
ENTITY |= {"start": pa.int64(), "end": pa.int64()}
# What may be added to a row.
ANSWERS = {
    "prediction": pa.string(),
    "score": pa.float64(),
    "entities": pa.list_(pa.struct(ENTITY.items())),
}


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


# --- Reading -----------------------------------------------------------------------------------


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
        raise DataError(f"{path} cannot be read ({reason(error)}): replace it") from None
    if empty:
        raise DataError(f"{path} has no rows: there is nothing to answer")


def reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


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
            texts = [_values(path, first, column, table[column]) for column in columns]
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
            raise DataError(f"{path}: row {number} is no JSON ({reason(error)})") from None
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


def _values(path, first, name, column) -> list:
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


# --- Writing -----------------------------------------------------------------------------------


@contextmanager
def writer(file, kind: str, source: Path) -> Iterator[Callable[[Window, list[dict]], None]]:
    """Yields a function that adds a window of `source`, and the answer to each row, to a binary file.

    DataError for what a file of this kind has no room for.
    """
    tables, begun = [], False

    def write(window, answers):
        nonlocal begun
        if window.rows and kind == source.suffix:
            lines = RAW[kind](window, answers, begun)
            file.write("".join(lines).encode())
        else:
            table = window.table()
            _check_room(source, kind, window.first, table)
            for name in answers[0]:
                table = table.append_column(*_column(name, answers, kind))
            if not begun:
                tables.append(TABLES[kind](file, table.schema))
            tables[0].write_table(table)
        begun = True

    try:
        yield write
    finally:
        for table in tables:
            table.close()


def _dumps(value) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _raw_jsonl(window, answers, begun):
    for row, answer in zip(window.rows, answers, strict=True):
        body = row.line.rstrip()
        end = row.line[len(body) :]
        yield f"{body[:-1]}, {_dumps(answer)[1:]}{end}"
        if not end.endswith("\n"):
            yield "\n"


def _raw_csv(window, answers, begun):
    heading = window.heading.rstrip("\r\n")
    end = window.heading[len(heading) :]
    if not begun:
        yield f"{heading},{_csv_line(answers[0])}{end}"
    for row, answer in zip(window.rows, answers, strict=True):
        fields = [_dumps(v) if isinstance(v, list) else v for v in answer.values()]
        body = row.line.rstrip("\r\n")
        yield f"{body},{_csv_line(fields)}{row.line[len(body) :] or end}"


# `writerow` returns what `write` does.
_csv_line = csv.writer(SimpleNamespace(write=str), lineterminator="").writerow


def _check_room(source, kind, first, table):
    if kind == ".parquet":
        return
    fits = {".jsonl": _fits_json, ".csv": _fits_csv}[kind]
    for field in table.schema:
        if not fits(field.type):
            raise DataError(
                f"{source}: column {field.name!r} holds {field.type}, which a {kind} has no room for: "
                "answer it into a .parquet"
            )
        _values(source, first, field.name, table[field.name])


def _fits_json(kind: pa.DataType) -> bool:
    t = pa.types
    if t.is_dictionary(kind) or t.is_list(kind) or t.is_large_list(kind):
        return _fits_json(kind.value_type)
    if t.is_struct(kind):
        return all(_fits_json(field.type) for field in kind)
    plain = t.is_null, t.is_boolean, t.is_integer, t.is_floating, t.is_string, t.is_large_string
    return any(test(kind) for test in plain)


def _fits_csv(kind: pa.DataType) -> bool:
    t = pa.types
    if t.is_dictionary(kind):
        return _fits_csv(kind.value_type)
    bytes_ = t.is_binary, t.is_large_binary, t.is_fixed_size_binary, t.is_binary_view
    return not any(test(kind) for test in (*bytes_, t.is_nested, t.is_string_view))


def _column(name, answers, kind) -> tuple[pa.Field, pa.Array]:
    values, type_ = [answer[name] for answer in answers], ANSWERS[name]
    if kind == ".csv" and pa.types.is_nested(type_):
        values, type_ = [_dumps(value) for value in values], pa.string()
    return pa.field(name, type_), pa.array(values, type_)


class _JsonlTables:
    """Tables as lines of JSON."""

    def __init__(self, file, schema):
        self.file, self.written = file, 0

    def write_table(self, table):
        for row in table.to_pylist():
            self.written += 1
            try:
                self.file.write(f"{_dumps(row)}\n".encode())
            except ValueError:
                raise DataError(
                    f"row {self.written} holds NaN or infinity, which a .jsonl has no room for: "
                    "answer it into a .parquet"
                ) from None

    def close(self):
        pass


RAW = {".jsonl": _raw_jsonl, ".csv": _raw_csv}
TABLES = {".jsonl": _JsonlTables, ".csv": pa.csv.CSVWriter, ".parquet": pq.ParquetWriter}
