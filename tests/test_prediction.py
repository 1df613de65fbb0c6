"""`muxplm predict` and `muxplm export`: files in, files out, nothing half-written."""

import json

import pandas as pd
import pytest
from conftest import WORDS, build
from transformers import pipeline
from typer.testing import CliRunner

from muxplm import prediction
from muxplm.cli import app
from muxplm.files import DataError
from muxplm.models.modeling import MuxForMaskedLM, MuxForSequenceClassification
from muxplm.models.modeling import MuxForTokenClassification as Tagger

N = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    return save(tmp_path_factory.mktemp("model"), MuxForSequenceClassification, tokenizer)


def save(path, head, tokenizer):
    build(head, n=N, num_labels=3).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def rows(count):
    return pd.DataFrame(
        {"id": range(count), "text": [f"{WORDS[i % 45]} {WORDS[i * 7 % 45]}" for i in range(count)]}
    )


def write(frame, path):
    if path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        getattr(frame, f"to_{path.suffix[1:]}")(path, index=False)
    return path


def read(path):
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return getattr(pd, f"read_{path.suffix[1:]}")(path)


def run(model, source, output, *options):
    names = [
        "predict",
        model,
        "--input",
        source,
        "--output",
        output,
        "--precision",
        "fp32",
        *options,
    ]
    return CliRunner().invoke(app, [str(name) for name in names], catch_exceptions=True)


def test_texts_longer_than_the_model_takes_are_cut(folder, tmp_path):
    texts = [" ".join(WORDS), " ".join(WORDS[:38])]  # 40 positions, two of them special
    found = []
    for i, text in enumerate(texts):
        source = write(pd.DataFrame({"text": [text]}), tmp_path / f"in{i}.csv")
        done = run(folder, source, tmp_path / f"out{i}.csv")
        assert done.exit_code == 0, done.output
        found.append(read(tmp_path / f"out{i}.csv").drop(columns="text"))
    pd.testing.assert_frame_equal(*found)


@pytest.mark.parametrize("suffix", prediction.FORMATS)
def test_a_file_is_answered_as_the_pipeline_answers_its_rows(folder, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(prediction, "WINDOW", 2)  # several windows of 2 x 6 rows
    frame = rows(40)
    source, output = write(frame, tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    result = run(folder, source, output, "--batch-size", 6)
    assert result.exit_code == 0, result.output
    found = read(output)
    assert list(found) == ["id", "text", "prediction", "score"]
    assert found["id"].tolist() == list(range(40))
    answer = pipeline("text-classification", str(folder), device="cpu")
    expected = answer(frame["text"].tolist(), batch_size=6)
    assert found["prediction"].tolist() == [e["label"] for e in expected]
    assert found["score"].tolist() == pytest.approx([e["score"] for e in expected], abs=1e-5)


def test_never_more_rows_at_once_than_a_window(folder, tmp_path, monkeypatch):
    """Memory does not grow with the file: each frame is read, answered and written by itself."""
    monkeypatch.setattr(prediction, "WINDOW", 2)
    sizes, texts_of = [], prediction._texts

    def counted(frame, columns):
        sizes.append(len(frame))
        return texts_of(frame, columns)

    monkeypatch.setattr(prediction, "_texts", counted)
    source = write(rows(40), tmp_path / "in.csv")
    prediction.predict(folder, source, tmp_path / "out.csv", ["text"], 6, "fp32", None, 1)
    assert sizes == [12, 12, 12, 4]


def test_pairs_and_composition(folder, tmp_path):
    frame = rows(10).assign(other=WORDS[:10])
    source = write(frame, tmp_path / "in.parquet")
    output = tmp_path / "out.parquet"
    options = ["--text", "text", "--text", "other", "--composition-seed", 4, "--copies", 2]
    assert run(folder, source, output, *options).exit_code == 0
    pairs = [
        {"text": a, "text_pair": b} for a, b in zip(frame["text"], frame["other"], strict=True)
    ]
    answer = pipeline("text-classification", str(folder), device="cpu")
    expected = answer(pairs, composition_seed=4, copies=2, batch_size=64)
    found = read(output)["score"].tolist()
    assert found == pytest.approx([e["score"] for e in expected], abs=1e-5)


def test_a_tagger_gives_entities(tmp_path, tokenizer):
    model = save(tmp_path / "tagger", Tagger, tokenizer)
    source, output = write(rows(4), tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    assert run(model, source, output).exit_code == 0
    found = [json.loads(entities) for entities in read(output)["entities"]]
    assert [[e["word"] for e in entities] for entities in found] == [
        text.split() for text in rows(4)["text"]
    ]


def test_words_that_look_like_missing_values_or_numbers_are_texts(folder, tmp_path):
    frame = pd.DataFrame({"text": ["NA", "1", "null", "w1"]})
    source, output = write(frame, tmp_path / "in.csv"), tmp_path / "out.csv"
    assert run(folder, source, output).exit_code == 0
    assert len(read(output)) == 4


@pytest.mark.parametrize(
    ("name", "content", "options", "complaint"),
    [
        ("in.csv", "id,text\n1,w1\n", ["--text", "review"], "no column 'review'; it has id, text"),
        ("in.csv", "id,text\n1,w1\n2,\n", [], "row 2 has no text in column 'text'"),
        ("in.csv", "id,text\n", [], "has no rows"),
        ("in.csv", "text,score\nw1,3\n", [], "has a column 'score' already"),
        ("in.jsonl", '{"text": "w1"}\n{"text": \n', [], "is damaged"),
        ("in.parquet", "PAR1 of no use", [], "is damaged"),
        ("in.txt", "w1\n", [], "is none of .jsonl, .csv, .parquet"),
        (None, "", [], "is missing"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_output(
    folder, tmp_path, name, content, options, complaint
):
    source, output = tmp_path / (name or "in.csv"), tmp_path / "out.csv"
    if name:
        source.write_text(content)
    result = run(folder, source, output, *options)
    assert isinstance(result.exception, DataError)
    assert complaint in str(result.exception)
    assert str(source) in str(result.exception)
    assert "\n" not in str(result.exception)
    assert {path.name for path in tmp_path.iterdir()} <= {source.name}


def test_a_folder_that_cannot_answer_is_named(tmp_path, tokenizer):
    source = write(rows(4), tmp_path / "in.csv")
    model = save(tmp_path / "mlm", MuxForMaskedLM, tokenizer)
    for wrong, complaint in ((model, "predicts no labels"), (tmp_path / "none", "holds no model")):
        result = run(wrong, source, tmp_path / "out.csv")
        assert isinstance(result.exception, DataError)
        assert complaint in str(result.exception)
