"""Files of texts that `muxplm predict` cannot answer, and what it is told."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq

from malformed import Case
from malformed.configs import written
from malformed.data import file_damages

SEED, ROWS = 0, 40


def command(source, output="out.csv", *more, model="answers"):
    return " ".join(["predict", model, "--input", source, "--output", output, *more])


def by_hand():
    """(name of the file, content)."""
    half = '{"text": "a"}\n'
    return [
        ("a.csv", ""),
        ("a.csv", "\n\n"),
        ("a.csv", "text\n"),
        ("a.csv", "id\n1\n"),
        ("a.csv", "text,text\na,b\n"),
        ("a.csv", 'text\n" "\n'),
        ("a.csv", "id,text\n1,a,b\n"),
        ("a.csv", "id,text\n1\n"),
        ("a.csv", "id,text\n1,a\n2,b,c\n"),
        ("a.csv", 'text\n"open\n'),
        ("a.csv", 'text\n"a"b"c\n'),
        ("a.csv", b"text\n\xff\n"),
        ("a.csv", b"\xff\xfet\0e\0x\0t\0"),
        ("a.csv", "text;id\na;1\n"),
        ("a.csv", "text,prediction\na,b\n"),
        ("a.csv", "text,score\na,b\n"),
        ("a.csv", "Text\na\n"),
        ("a.csv", " text\na\n"),
        ("a.jsonl", ""),
        ("a.jsonl", "\n"),
        ("a.jsonl", "{}\n"),
        ("a.jsonl", "[]\n"),
        ("a.jsonl", "3\n"),
        ("a.jsonl", "null\n"),
        ("a.jsonl", '"text"\n'),
        ("a.jsonl", half + "{\n"),
        ("a.jsonl", half + '{"text": "b"\n'),
        ("a.jsonl", half + '{"text": "b"} x\n'),
        ("a.jsonl", half + '{"text": "b"},\n'),
        ("a.jsonl", half + '{"other": "b"}\n'),
        ("a.jsonl", half + '{"text": 3}\n'),
        ("a.jsonl", half + '{"text": null}\n'),
        ("a.jsonl", half + '{"text": ""}\n'),
        ("a.jsonl", half + '{"text": "\\n\\t"}\n'),
        ("a.jsonl", half + '{"text": ["b"]}\n'),
        ("a.jsonl", half + '{"text": {"a": "b"}}\n'),
        ("a.jsonl", half + '{"text": "b", "text": "c"}\n'),
        ("a.jsonl", half + '{"text": "\\ud800"}\n'),
        ("a.jsonl", half + '{"text": "b", "score": 1}\n'),
        ("a.jsonl", half + '{"text": "b", "prediction": 1}\n'),
        ("a.jsonl", half + "{'text': 'b'}\n"),
        ("a.jsonl", half + "[" * 100_000 + "\n"),
        ("a.jsonl", half + '{"a":' * 100_000 + "\n"),
        ("a.jsonl", half.encode() + b'{"text": "\xff"}\n'),
        ("a.jsonl", half.encode("utf-16")),
        ("a.jsonl", "text\na\n"),
        ("a.parquet", ""),
        ("a.parquet", "text\na\n"),
        ("a.parquet", "PAR1PAR1"),
        ("a.parquet", b"PAR1" + bytes(100) + b"PAR1"),
        ("a.txt", "a\n"),
        ("a", "a\n"),
        ("a.CSV", "text\na\n"),
        ("a.json", half),
        ("a.tsv", "text\na\n"),
        ("a.csv.gz", "text\na\n"),
    ]


def cases():
    for i, (name, content) in enumerate(by_hand()):
        yield Case(f"{name} {i}: {content[:20]!r}", command(name), (name,), written(name, content))
    yield from _generated()
    yield from _tables()
    for what, damage in file_damages("in.csv").items():
        if what not in ("cut to a third", "cut to nine tenths"):
            yield Case(f"input {what}", command("in.csv"), ("in.csv",), damage)
    yield from _options()


def _generated():
    """One fault in the midst of a good file."""
    rng = random.Random(SEED)
    for i in range(60):
        row, kind = rng.randrange(1, ROWS), rng.choice(["csv", "jsonl"])
        texts = [" ".join(rng.choices("abcdef", k=rng.randint(1, 9))) for _ in range(ROWS)]
        if kind == "csv":
            lines = ["id,text", *(f'{n},"{text}"' for n, text in enumerate(texts))]
            fault = rng.choice(
                [
                    lambda line: line + ",more",
                    lambda line: line.split(",")[0],
                    lambda line: line[:-1] + "x" * rng.randint(0, 5),
                    lambda line: line.split(",")[0] + ",  ",
                    lambda line: (
                        line[: line.index('"') + 2] + "\udcff" + line[line.index('"') + 2 :]
                    ),
                    lambda line: line + '"',
                ]
            )
        else:
            lines = ["", *(json.dumps({"id": n, "text": text}) for n, text in enumerate(texts))]
            fault = rng.choice(
                [
                    lambda line: line[: rng.randrange(1, len(line))],
                    lambda line: line[rng.randrange(1, len(line)) :],
                    lambda line: line.replace("text", "txet"),
                    lambda line: line.replace('"text": "', '"text": ["') + "]",
                    lambda line: line.replace("a", "\udcff").replace("e", "\udcfe") + "\udcff",
                ]
            )
        lines[row] = fault(lines[row])
        content = "\n".join(lines).encode("utf-8", "surrogateescape")
        name = f"in.{kind}"
        output = f"out.{rng.choice(['csv', 'jsonl', 'parquet'])}"
        yield Case(
            f"{kind} {i}: {lines[row][:40]!r}",
            command(name, output),
            (name,),
            written(name, content),
        )


def parquet(**columns):
    def damage(folder):
        pq.write_table(pa.table(columns), folder / "in.parquet")

    return damage


def _tables():
    texts = pa.array(["a", "b"])
    bad = pa.array([b"a", b"\xff"], pa.binary()).view(pa.string())
    nan = pa.array([1.0, float("nan")])
    moment = pa.array([0, 1], pa.timestamp("us"))
    nested = pa.array([{"x": [1]}, {"x": []}])
    tables = {
        "no text": ({"other": texts}, "csv"),
        "numbers": ({"text": pa.array([1, 2])}, "csv"),
        "lists": ({"text": pa.array([["a"], ["b"]])}, "csv"),
        "a null": ({"text": pa.array(["a", None])}, "csv"),
        "blank": ({"text": pa.array(["a", " "])}, "csv"),
        "bytes": ({"text": pa.array([b"a", b"b"])}, "csv"),
        "not UTF-8": ({"text": bad}, "csv"),
        "no rows": ({"text": texts[:0]}, "csv"),
        "a score": ({"text": texts, "score": texts}, "csv"),
        "another column not UTF-8 to csv": ({"text": texts, "x": bad}, "csv"),
        "another column not UTF-8 to jsonl": ({"text": texts, "x": bad}, "jsonl"),
        "NaN to jsonl": ({"text": texts, "x": nan}, "jsonl"),
        "moments to jsonl": ({"text": texts, "x": moment}, "jsonl"),
        "bytes to csv": ({"text": texts, "x": pa.array([b"a", b"b"])}, "csv"),
        "nested to csv": ({"text": texts, "x": nested}, "csv"),
        "lists to csv": ({"text": texts, "x": pa.array([[1], [2]])}, "csv"),
        "bytes to jsonl": ({"text": texts, "x": pa.array([b"a", b"b"])}, "jsonl"),
    }
    for what, (columns, output) in tables.items():
        yield Case(
            f"parquet {what}",
            command("in.parquet", f"out.{output}"),
            ("in.parquet",),
            parquet(**columns),
        )
    whole = parquet(text=texts, number=pa.array(range(2)))
    rng = random.Random(SEED)
    for share in (rng.random() for _ in range(12)):

        def cut_short(folder, share=share):
            whole(folder)
            content = (folder / "in.parquet").read_bytes()
            (folder / "in.parquet").write_bytes(content[: int(share * len(content))])

        yield Case(f"parquet cut at {share:.2f}", command("in.parquet"), ("in.parquet",), cut_short)


def _options():
    given = "in.csv"
    for typed, named in {
        command(given, "out.txt"): "out.txt",
        command(given, "out"): "out",
        command(given, "in.csv"): "in.csv",
        command(given, "answers/config.json/out.csv"): "out.csv",
        command(given, "out.csv", "--text review"): "review",
        command(given, "out.csv", "--text text --text text --text text"): "answers",
        command(given, "out.csv", "--text ''"): "in.csv",
        command(given, "out.csv", "--batch-size 0"): "--batch-size",
        command(given, "out.csv", "--batch-size -5"): "--batch-size",
        command(given, "out.csv", "--batch-size many"): "--batch-size",
        command(given, "out.csv", "--batch-size 1.5"): "--batch-size",
        command(given, "out.csv", "--precision fp16"): "fp16",
        command(given, "out.csv", "--precision ''"): "precision",
        command(given, "out.csv", "--copies 0"): "--copies",
        command(given, "out.csv", "--copies 3"): "--copies",
        command(given, "out.csv", "--copies x"): "--copies",
        command(given, "out.csv", "--composition-seed x"): "--composition-seed",
        command(given, "out.csv", "--composition-seed -1"): "--composition-seed",
        command(
            given, "out.csv", "--composition-seed 99999999999999999999999"
        ): "--composition-seed",
        command(given, "out.csv", "--unknown"): "--unknown",
        command(given, "out.csv", model="nowhere"): "nowhere",
        command(given, "out.csv", model="in.csv"): "in.csv",
        command(given, "out.csv", model="results"): "results",
        command(
            given, "out.csv", model=f"results/pretrain/{'mux-bert-base-n2'}"
        ): "mux-bert-base-n2",
        command(given, "out.csv", model="results/data/tokenizer"): "tokenizer",
        command(given, "out.csv", model="mirror"): "mirror",
        command(given, "out.csv", "--text text --text id", model="tags"): "tags",
        "predict answers --output out.csv": "--input",
        "predict answers --input in.csv": "--output",
        "predict --input in.csv --output out.csv": "model",
    }.items():
        yield Case(typed, typed, (named,))

    def taken(folder):
        (folder / "out.csv").mkdir()

    yield Case("output a folder", command(given), ("out.csv",), taken)
