"""Files of rows: what is not read is handed on as it stands, or the file is refused."""

import csv
import datetime
import decimal
import json
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muxplm.files import DataError, replacing
from muxplm.rows import read, writer

ANSWER = {"prediction": 'a "b", c', "score": 0.1}
ENTITIES = {"entities": [{"entity": "B-X", "score": 0.5, "word": "Ä", "start": 0, "end": 1}]}
# Values that a reader who guesses types changes, and JSON that a second writer spells otherwise.
JSON_LINES = [
    '{"id": 007.5, "text": "w"}'.replace("007.5", "1.10"),
    '{"b":9007199254740993,"text":"w","a":1e-15}',
    '{ "text" : "\\u00e4 \\/ w" ,  "nested": {"z": [1.0, true, null], "a": "}"} }  ',
    '{"text": "ä", "a": true, "n": NaN, "big": 1' + "0" * 5000 + "}",
]
CSV_ROWS = [
    '00123,1.10,true,"a, b"',
    '"00123",9007199254740993,,"a ""b"" c"',
    '1e-15,"x\r\ny",NA,w',
    " padded ,é,,w",
]


def answered(source, output, size=3, answer=ANSWER, columns=("text",)):
    """Every row of `source` with the same answer, in `output`."""
    with replacing(output) as file, writer(file, output.suffix, source) as write:
        for window in read(source, list(columns), list(answer), size):
            write(window, [answer] * len(window))
    return output


def json_rows(path):
    """By the standard library, numbers as they are spelt."""
    lines = path.read_bytes().decode("utf-8-sig").splitlines()
    return [json.loads(line, parse_int=str, parse_float=str) for line in lines if line.strip()]


def csv_rows(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, strict=True))


# --- The same kind -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_jsonl_lines_are_handed_on_byte_for_byte(tmp_path, begin, end, last):
    content = begin + end.join(JSON_LINES) + (end if last else "")
    source = tmp_path / "in.jsonl"
    source.write_bytes(content.encode())
    output = answered(source, tmp_path / "out.jsonl")
    found = output.read_bytes().decode().split("\n")
    assert found.pop() == ""
    expected = (begin + end.join(JSON_LINES)).split("\n")
    for before, after in zip(expected, found, strict=True):
        assert after.startswith(before.rstrip()[:-1])
    answers = [{"prediction": 'a "b", c', "score": "0.1"}] * 4
    assert [dict(list(row.items())[-2:]) for row in json_rows(output)] == answers


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_csv_rows_are_handed_on_byte_for_byte(tmp_path, begin, end, last):
    source = tmp_path / "in.csv"
    lines = ["id,b,c,text", *CSV_ROWS]
    source.write_bytes((begin + end.join(lines) + (end if last else "")).encode())
    output = answered(source, tmp_path / "out.csv")
    expected = [f'{line},"a ""b"", c",0.1' for line in lines]
    expected[0] = "id,b,c,text,prediction,score"
    assert output.read_bytes() == (begin + end.join(expected) + end).encode()
    before, after = csv_rows(source), csv_rows(output)
    assert [{**row, "prediction": 'a "b", c', "score": "0.1"} for row in before] == after


def test_empty_lines_are_no_rows(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('\n{"text": "a"}\n  \n{"text": "b"}\n\n')
    assert [row["text"] for row in json_rows(answered(source, tmp_path / "out.jsonl"))] == [
        "a",
        "b",
    ]
    source = tmp_path / "in.csv"
    source.write_text("\ntext\n\na\n\nb\n")
    assert [row["text"] for row in csv_rows(answered(source, tmp_path / "out.csv"))] == ["a", "b"]


def not_utf8(count):
    offsets = pa.array(range(count + 1), pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), count, [None, offsets, pa.py_buffer(b"\xff" * count)])


@pytest.fixture
def typed():
    """Seven rows of what pandas would read as something else."""
    seven = range(7)
    day = datetime.date(2020, 2, 29)
    columns = {
        "text": pa.array(list("abcdefg")),
        "big": pa.array([2**63 - 1 - i if i % 2 else None for i in seven], pa.int64()),
        "small": pa.array([i % 2 for i in seven], pa.int8()),
        "exact": pa.array([decimal.Decimal("1.10")] * 7),
        "when": pa.array([datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)] * 7),
        "day": pa.array([day] * 7),
        "kind": pa.array(list("xyxzyxx")).dictionary_encode(),
        "list": pa.array([[i, None] for i in seven]),
        "struct": pa.array([{"a": i, "b": None} for i in seven]),
        "bytes": pa.array([b"\xff"] * 7),
        "bad": not_utf8(7),
    }
    fields = [
        pa.field(name, values.type, metadata={"of": name}) for name, values in columns.items()
    ]
    return pa.table(list(columns.values()), pa.schema(fields, metadata={"of": "all"}))


@pytest.mark.parametrize("size", [2, 3, 100])
def test_parquet_columns_keep_type_and_value(tmp_path, typed, size):
    """Row groups of 2 rows, none of which a window needs to respect."""
    pq.write_table(typed, tmp_path / "in.parquet", row_group_size=2)
    output = answered(tmp_path / "in.parquet", tmp_path / "out.parquet", size)
    before, after = pq.read_table(tmp_path / "in.parquet"), pq.read_table(output)
    kept = after.select(before.column_names)
    assert kept.schema.equals(before.schema, check_metadata=True)
    bad = [table["bad"].cast(pa.binary()).to_pylist() for table in (kept, before)]
    assert bad == [[b"\xff"] * 7] * 2
    for name in set(before.column_names) - {"bad"}:
        assert kept[name].to_pylist() == before[name].to_pylist(), name
    assert after["score"].to_pylist() == [0.1] * 7


def test_windows_have_their_size_whatever_the_row_groups(tmp_path, typed):
    """Rows share a pass by their place in the file: a shorter window would move all that follow."""
    pq.write_table(typed, tmp_path / "in.parquet", row_group_size=2)
    sizes = [len(window) for window in read(tmp_path / "in.parquet", ["text"], [], 3)]
    assert sizes == [3, 3, 1]


# --- Another kind ------------------------------------------------------------------------------


def test_csv_to_the_others_is_text(tmp_path):
    source = tmp_path / "in.csv"
    source.write_bytes("\r\n".join(["id,b,c,text", *CSV_ROWS]).encode())
    expected = csv_rows(source)
    found = json_rows(answered(source, tmp_path / "out.jsonl"))
    assert found == [{**row, "prediction": 'a "b", c', "score": "0.1"} for row in expected]
    table = pq.read_table(answered(source, tmp_path / "out.parquet"))
    assert table.select(["id", "b", "c", "text"]).to_pylist() == expected
    assert set(table.schema.types[:4]) == {pa.string()}


def test_jsonl_to_the_others_is_text_by_name(tmp_path):
    """The order of keys changes, and so do types: neither may move or change a value."""
    source = tmp_path / "in.jsonl"
    lines = ['{"a": 1.10, "b": "007", "text": "w"}'] * 4
    lines += [
        '{"text": "x", "b": null, "a": [1.0, {"c": true}]}',
        '{"b": true, "a": "", "text": "y"}',
    ]
    source.write_text("\n".join(lines))
    expected = [("1.10", "007", "w")] * 4 + [('[1.0, {"c": true}]', None, "x"), ("", "true", "y")]
    table = pq.read_table(answered(source, tmp_path / "out.parquet"))
    assert [tuple(row.values())[:3] for row in table.to_pylist()] == expected
    found = answered(source, tmp_path / "out.csv").read_text().splitlines()
    # An empty field without quotes is null, one with quotes the empty string.
    assert [line.rsplit(',"a ""b""', 1)[0] for line in found[1:]] == [
        '"1.10","007","w"',
        '"1.10","007","w"',
        '"1.10","007","w"',
        '"1.10","007","w"',
        '"[1.0, {""c"": true}]",,"x"',
        '"","true","y"',
    ]


def test_parquet_to_jsonl_keeps_numbers_lists_and_nulls(tmp_path, typed):
    table = typed.select(["text", "big", "small", "kind", "list", "struct"])
    pq.write_table(table, tmp_path / "in.parquet")
    output = answered(tmp_path / "in.parquet", tmp_path / "out.jsonl", answer=ENTITIES)
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert found == [row | ENTITIES for row in table.to_pylist()]


def test_parquet_to_csv_spells_exactly(tmp_path, typed):
    table = typed.select(["text", "big", "exact", "day", "kind"])
    pq.write_table(table, tmp_path / "in.parquet")
    output = answered(tmp_path / "in.parquet", tmp_path / "out.csv", answer=ENTITIES)
    found = csv_rows(output)
    assert [row["big"] for row in found[:2]] == ["", "9223372036854775806"]
    assert {(row["exact"], row["day"]) for row in found} == {("1.10", "2020-02-29")}
    assert [row["kind"] for row in found] == list("xyxzyxx")
    assert json.loads(found[0]["entities"]) == ENTITIES["entities"]


# --- Refused -----------------------------------------------------------------------------------

A, B = '{"text": "a"}\n', '{"text": "b", "more": 1}\n'


@pytest.mark.parametrize(
    ("name", "content", "out", "complaint"),
    [
        ("in.csv", "text,id\na,1\nb,2,\n", ".csv", "row 2 has 3 fields and the heading 2"),
        ("in.csv", "text,id\na\n", ".csv", "row 1 has 1 fields and the heading 2"),
        ("in.csv", 'text,id\n"a,1\nb,2\n', ".csv", "line 2 begins no CSV row"),
        ("in.csv", 'text,id\na,1\n"b"c,2\n', ".csv", "line 3 begins no CSV row"),
        ("in.csv", "text,id\ra,1\r", ".csv", "begins no CSV row"),
        ("in.csv", "text,id,id\na,1,1\n", ".csv", "two columns 'id'"),
        ("in.csv", b"text\na\n\xff\n", ".csv", "line 3 is not UTF-8"),
        ("in.csv", "text\na\n".encode("utf-16"), ".csv", "line 1 is not UTF-8"),
        ("in.csv", "", ".csv", "has no rows"),
        ("in.csv", "id;text\n1;a\n", ".csv", "no column 'text'; it has id;text"),
        ("in.csv", "text\n a \n \n", ".csv", "row 2 has no text"),
        ("in.jsonl", A * 4 + B, ".csv", "row 5 has the keys text, more and row 1 text"),
        ("in.jsonl", A * 4 + B, ".parquet", "row 5 has the keys text, more and row 1 text"),
        ("in.jsonl", B + A, ".csv", "row 2 has the keys text and row 1 text, more"),
        ("in.jsonl", A + '{"more": 1}\n', ".jsonl", "row 2 has no column 'text'; it has more"),
        ("in.jsonl", A + '{"text": 1}\n', ".jsonl", "row 2 has no text in column 'text'"),
        ("in.jsonl", A + '["a"]\n', ".jsonl", "row 2 is no JSON object"),
        ("in.jsonl", A + '{"text": "a"} {}\n', ".jsonl", "row 2 is no JSON (Extra data"),
        ("in.jsonl", '{"text": "a", "text": "b"}\n', ".jsonl", "a key stands there twice"),
        ("in.jsonl", '{"text": "a", "score": 1}\n', ".jsonl", "row 1 has a column 'score' already"),
        ("in.jsonl", '{"text": "\\ud800"}\n', ".jsonl", "row 1 has half a character in 'text'"),
        ("in.jsonl", '{"text": "a", "b": "\\ud800"}\n', ".csv", "rows 1 to 1 hold half a"),
        ("in.jsonl", '{"text": ' + "[" * 100_000 + "\n", ".jsonl", "row 1 is no JSON"),
        ("in.jsonl", A.encode() + b'{"text": "\xff"}\n', ".jsonl", "line 2 is not UTF-8"),
        ("in.parquet", "PAR1 of no use", ".csv", "cannot be read"),
    ],
)
def test_what_cannot_be_read_or_kept_is_named(tmp_path, name, content, out, complaint):
    source = tmp_path / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        answered(source, tmp_path / f"out{out}")
    assert complaint in str(error.value)
    assert str(source) in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("column", "out", "complaint"),
    [
        ("when", ".jsonl", "column 'when' holds timestamp[us, tz=UTC], which a .jsonl has no room"),
        ("bytes", ".jsonl", "column 'bytes' holds binary"),
        ("bytes", ".csv", "column 'bytes' holds binary"),
        ("list", ".csv", "column 'list' holds list<"),
        ("bad", ".csv", "row 1 is not UTF-8 in column 'bad'"),
        ("bad", ".jsonl", "row 1 is not UTF-8 in column 'bad'"),
    ],
)
def test_a_type_without_room_is_named(tmp_path, typed, column, out, complaint):
    pq.write_table(typed.select(["text", column]), tmp_path / "in.parquet")
    with pytest.raises(DataError) as error:
        answered(tmp_path / "in.parquet", tmp_path / f"out{out}")
    assert complaint in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_text_that_is_not_utf8_and_a_number_that_is_none_are_named(tmp_path):
    pq.write_table(pa.table({"text": not_utf8(2)}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match="row 1 is not UTF-8 in column 'text'"):
        answered(tmp_path / "in.parquet", tmp_path / "out.parquet")
    numbers = pa.table({"text": ["a", "b"], "x": [1.0, float("nan")]})
    pq.write_table(numbers, tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"in.parquet: row 2 holds NaN"):
        answered(tmp_path / "in.parquet", tmp_path / "out.jsonl")


def test_a_parquet_file_cut_short_is_refused(tmp_path, typed):
    pq.write_table(typed, tmp_path / "whole.parquet", compression="none")
    content = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "in.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        answered(tmp_path / "in.parquet", tmp_path / "out.parquet")
    damaged = content[:200].replace(b"abcdefg"[:1], b"\xff") + b"\x07" * 64 + content[264:]
    (tmp_path / "in.parquet").write_bytes(damaged)
    with pytest.raises(DataError):
        answered(tmp_path / "in.parquet", tmp_path / "out.parquet")


# --- The file in whose place it comes ----------------------------------------------------------


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path):
    path = tmp_path / "deep" / "out.csv"
    with replacing(path) as file:
        file.write(b"first")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"second")
        assert path.read_bytes() == b"first"
        raise RuntimeError
    assert path.read_bytes() == b"first"
    usual = tmp_path / "usual"
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode
    assert [entry.name for entry in path.parent.iterdir()] == ["out.csv"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
def test_sigkill_leaves_nothing(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom muxplm.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'x' * 2**20); file.flush(); print('begun', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_without_nameless_files_a_draft_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    with replacing(tmp_path / "out.csv") as file:
        file.write(b"x")
        assert [path.name for path in tmp_path.iterdir()] == [".out.csv.draft"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
