"""`muxplm predict`: files in, files out, nothing half-written, nothing made up."""

import json
import shutil

import pandas as pd
import pytest
import torch
from conftest import WORDS, build, make_config
from safetensors.torch import load_file, save_file
from transformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
    BertTokenizer,
    BertTokenizerFast,
    pipeline,
)
from typer.testing import CliRunner

from muxplm import prediction
from muxplm.cli import app
from muxplm.files import DataError
from muxplm.models.modeling import MuxForMaskedLM, MuxForSequenceClassification
from muxplm.models.modeling import MuxForTokenClassification as Tagger
from muxplm.rows import KINDS

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


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_is_answered_as_the_pipeline_answers_its_rows(folder, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(prediction, "WINDOW", 12)
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
    """Memory does not grow with the file: each window is read, answered and written by itself."""
    monkeypatch.setattr(prediction, "WINDOW", 11)  # 12 rows, which are whole groups of 3
    sizes, inputs_of = [], prediction._inputs

    def counted(texts):
        sizes.append(len(texts[0]))
        return inputs_of(texts)

    monkeypatch.setattr(prediction, "_inputs", counted)
    source = write(rows(40), tmp_path / "in.csv")
    prediction.predict(folder, source, tmp_path / "out.csv", ["text"], 6, "fp32", None, 1)
    assert sizes == [12, 12, 12, 4]


@pytest.mark.parametrize("options", [[], ["--composition-seed", 3], ["--copies", 2]])
def test_answers_do_not_depend_on_the_batch_size(folder, tmp_path, monkeypatch, options):
    """Windows of 10 rows asked for: without whole groups a row of another window would fill in."""
    monkeypatch.setattr(prediction, "WINDOW", 10)
    source, found = write(rows(40), tmp_path / "in.csv"), []
    for size in (1, 7, 64):
        assert (
            run(folder, source, tmp_path / "out.csv", "--batch-size", size, *options).exit_code == 0
        )
        found.append(read(tmp_path / "out.csv")["score"].tolist())
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert found[2] == pytest.approx(found[0], abs=1e-6)


def test_bf16_weights_are_cast_once_and_answer_as_autocast_does(folder, tmp_path, monkeypatch):
    source, output, models = write(rows(40), tmp_path / "in.csv"), tmp_path / "out.csv", []
    load = prediction.load

    def kept(*arguments):
        answer, settings = load(*arguments)
        models.append(answer.model)
        return answer, settings

    monkeypatch.setattr(prediction, "load", kept)
    prediction.predict(folder, source, output, ["text"], 6, "bf16", None, 1)
    assert models[0].classifier.weight.dtype == torch.bfloat16
    answer = pipeline("text-classification", str(folder), device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        expected = answer(rows(40)["text"].tolist(), batch_size=6)
    assert read(output)["score"].tolist() == [e["score"] for e in expected]


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


PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ac", "##me", "corp", ".", "in", "rome")


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    """A folder with a tagger whose tokenizer cuts words into pieces. No label is "O"."""
    names = {"id2label": {0: "B-X", 1: "I-X", 2: "N"}}
    model = build(Tagger, n=N, **names)
    path = tmp_path_factory.mktemp("tagger")
    model.save_pretrained(path)
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    BertTokenizer(
        vocab=vocabulary, model_input_names=["input_ids", "attention_mask"]
    ).save_pretrained(path)
    return path


def of_first_pieces(path, sentences):
    """The tag and its probability on the first piece of each word, from the model itself."""
    tokenizer = BertTokenizer.from_pretrained(path)
    model = Tagger.from_pretrained(path).eval()
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        probabilities = model(batch["input_ids"], batch["attention_mask"]).logits.softmax(-1)
    for i in range(len(sentences)):
        pieces = tokenizer.convert_ids_to_tokens(batch["input_ids"][i])
        starts = [j for j, p in enumerate(pieces) if p in PIECES[5:] and not p.startswith("##")]
        best = probabilities[i, starts].max(dim=-1)
        yield [model.config.id2label[k] for k in best.indices.tolist()], best.values.tolist()


@pytest.mark.parametrize("suffix", KINDS)
def test_a_tagger_answers_for_whole_words(tagger, tmp_path, suffix):
    sentences = ["Acme Corp. in Rome", "acme in acme", "rome"]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences))
    output = tmp_path / f"out{suffix}"
    assert run(tagger, source, output).exit_code == 0
    found = read(output)["entities"].tolist()
    if suffix == ".csv":
        found = [json.loads(entities) for entities in found]
    words = [[e["word"] for e in entities] for entities in found]
    assert words == [["Acme", "Corp", ".", "in", "Rome"], ["acme", "in", "acme"], ["rome"]]
    for text, entities, expected in zip(
        sentences, found, of_first_pieces(tagger, sentences), strict=True
    ):
        assert all(text[e["start"] : e["end"]] == e["word"] for e in entities)
        assert [e["entity"] for e in entities] == expected[0]
        assert [e["score"] for e in entities] == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification])
def test_models_that_are_not_multiplexed_answer_too(head, tmp_path, tokenizer):
    """Their texts are cut to their positions, by a tokenizer that knows no limit."""
    texts = ["w1 w2", " ".join(WORDS), " ".join(WORDS[:38])]
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    write(pd.DataFrame({"text": texts}), source)
    torch.manual_seed(0)
    model = head(make_config().encoder).eval()
    model.save_pretrained(tmp_path / "plain")
    BertTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(
        tmp_path / "plain"
    )
    assert run(tmp_path / "plain", source, output).exit_code == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    tagger = "entities" in found[0]
    scores = [[e["score"] for e in row["entities"]] if tagger else row["score"] for row in found]
    assert scores[1] == pytest.approx(scores[2])
    with torch.no_grad():
        expected = (
            model(**tokenizer(texts[0], return_tensors="pt")).logits.softmax(-1).max(-1).values
        )
    words = slice(1, -1) if tagger else 0
    assert scores[0] == pytest.approx(expected[0, words].tolist() if tagger else expected[0].item())


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
        ("in.csv", "text,score\nw1,3\n", [], "has a column 'score' already"),
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
    refused(result, complaint)
    assert str(source) in str(result.exception)
    assert {path.name for path in tmp_path.iterdir()} <= {source.name}


def refused(result, complaint):
    assert isinstance(result.exception, DataError), result.exception
    assert complaint in str(result.exception)
    assert "\n" not in str(result.exception)


def test_what_the_command_line_cannot_mean_is_refused(folder, tmp_path):
    source, output = write(rows(4).assign(a="x", b="y"), tmp_path / "in.csv"), tmp_path / "out.csv"
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    three = ["--text", "text", "--text", "a", "--text", "b"]
    refused(run(folder, source, output, *three), "does not read 3 texts a row")
    refused(run(folder, source, output, "--copies", 5), "takes 3 texts a pass: at most 3")
    refused(run(folder, source, tmp_path / "folder.csv"), "folder.csv is a folder: name a file")
    refused(run(folder, tmp_path / "folder.csv", output), "folder.csv is a folder: name a file")
    refused(run(folder, source, source), "is the input: name another file")
    refused(run(folder, source, tmp_path / "file" / "out.csv"), "out.csv cannot be written")
    assert not output.exists()


def test_a_full_disk_is_named(folder, tmp_path, monkeypatch):
    source = write(rows(4), tmp_path / "in.csv")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("muxplm.files.os.fsync", full)
    refused(
        run(folder, source, tmp_path / "out.csv"), "out.csv cannot be written ([Errno 28] No space"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_folder_that_cannot_answer_is_named(tagger, tmp_path, tokenizer):
    source = write(rows(4), tmp_path / "in.csv")
    model = save(tmp_path / "mlm", MuxForMaskedLM, tokenizer)
    for wrong, complaint in ((model, "predicts no labels"), (tmp_path / "none", "holds no model")):
        refused(run(wrong, source, tmp_path / "out.csv"), complaint)
    pairs = ["--text", "text", "--text", "id"]
    refused(run(tagger, source, tmp_path / "out.csv", *pairs), "does not read 2 texts a row")


def without(name):
    def damage(model):
        weights = load_file(model / "model.safetensors")
        save_file({k: v for k, v in weights.items() if name not in k}, model / "model.safetensors")

    return damage


def not_a_number(model):
    weights = load_file(model / "model.safetensors")
    weights["classifier.bias"][1] = float("nan")
    save_file(weights, model / "model.safetensors")


def cut(name):
    def damage(model):
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[: len(content) // 2])

    return damage


def no_tokenizer(model):
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            without("classifier"),
            "lacks weights that its model needs (classifier.bias, classifier.weight)",
        ),
        (without(""), "lacks weights that its model needs"),
        (without("word_embeddings"), "lacks weights that its model needs"),
        (not_a_number, "weights that are no numbers (classifier.bias)"),
        (cut("model.safetensors"), "is damaged"),
        (cut("config.json"), "is damaged"),
        (cut("tokenizer.json"), "is damaged"),
        (no_tokenizer, "tokenizer"),
    ],
)
@pytest.mark.parametrize("kind", ["multiplexed", "plain"])
def test_a_damaged_model_answers_nothing(folder, tmp_path, tokenizer, damage, complaint, kind):
    """In particular no head is drawn at random where the folder has none."""
    model, source = tmp_path / "model", write(rows(4), tmp_path / "in.csv")
    if kind == "plain":
        BertForSequenceClassification(make_config().encoder).save_pretrained(model)
        tokenizer.save_pretrained(model)
    else:
        shutil.copytree(folder, model)
    damage(model)
    result = run(model, source, tmp_path / "out.csv")
    refused(result, complaint)
    assert str(model) in str(result.exception)
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "model"}
