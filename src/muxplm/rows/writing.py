"""Writing rows and their answers: as they stand into a file of their kind, else as tables."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from muxplm.files import DataError
from muxplm.rows.reading import Window, values_of

ENTITY = {"entity": pa.string(), "score": pa.float64(), "word": pa.string()}
ENTITY |= {"start": pa.int64(), "end": pa.int64()}
# What may be added to a row.
ANSWERS = {
    "prediction": pa.string(),
    "score": pa.float64(),
    "entities": pa.list_(pa.struct(ENTITY.items())),
}


@contextmanager
def writer(file, kind: str, source: Path) -> Iterator[Callable[[Window, list[dict]], None]]:
    """Yields a function that adds a window of `source`, and the answer to each row, to a binary file.

    DataError for what a file of this kind has no room for.
    """
    tables, begun = [], False

    def write(window, answers):
        nonlocal begun
        if kind == source.suffix and kind != ".parquet":
            lines = (
                _raw_csv(window, answers, begun) if kind == ".csv" else _raw_jsonl(window, answers)
            )
            file.write("".join(lines).encode())
        else:
            table = window.table()
            _check_room(source, kind, window.first, table)
            if kind == ".jsonl":
                lines = _json_lines(source, window.first, table, answers)
                file.write("".join(lines).encode())
            else:
                table = _with_answers(table, answers, kind)
                if not begun:
                    tables.append(TABLES[kind](file, table.schema))
                tables[0].write_table(table)
        begun = True

    try:
        yield write
    finally:
        for table in tables:
            table.close()


TABLES = {".csv": pa.csv.CSVWriter, ".parquet": pq.ParquetWriter}


# `json.dumps` with settings makes an encoder at each call.
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _raw_jsonl(window, answers):
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


def _json_lines(source, first, table, answers):
    rows = zip(table.to_pylist(), answers, strict=True)
    for number, (row, answer) in enumerate(rows, first):
        try:
            yield f"{_dumps(row | answer)}\n"
        except ValueError:
            raise DataError(
                f"{source}: row {number} holds NaN or infinity, which a .jsonl has no room for: "
                "answer it into a .parquet"
            ) from None


def _check_room(source, kind, first, table):
    """DataError for columns of `source` that a file of another kind cannot hold."""
    if kind == ".parquet":
        return
    fits = {".jsonl": _fits_json, ".csv": _fits_csv}[kind]
    for field in table.schema:
        if not fits(field.type):
            raise DataError(
                f"{source}: column {field.name!r} holds {field.type}, which a {kind} has no room for: "
                "answer it into a .parquet"
            )
        values_of(source, first, field.name, table[field.name])


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


def _with_answers(table, answers, kind) -> pa.Table:
    for name in answers[0]:
        values, type_ = [answer[name] for answer in answers], ANSWERS[name]
        if kind == ".csv" and pa.types.is_nested(type_):
            values, type_ = [_dumps(value) for value in values], pa.string()
        table = table.append_column(pa.field(name, type_), pa.array(values, type_))
    return table
