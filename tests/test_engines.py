"""ONNX files: torch's logits at any batch and length, and folders that pipelines and predict take."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import WORDS, build, make_config
from transformers import BertForSequenceClassification, BertTokenizer, pipeline
from typer.testing import CliRunner

from muxplm.cli import app
from muxplm.engines import FILE, OnnxModel
from muxplm.files import DataError
from muxplm.models.modeling import MuxForSequenceClassification, MuxForTokenClassification

N = 3
MODELS = {
    "rows": (MuxForSequenceClassification, {}),
    "tokens": (MuxForTokenClassification, {"demultiplexer": "prefix"}),
    "released": (
        MuxForTokenClassification,
        {"multiplexer": "contextual", "dialect": "released", "first_token_id": 2},
    ),
}


def convert(source, destination, *options):
    command = ["convert", str(source), str(destination), "--format", "onnx", *options]
    return CliRunner().invoke(app, command)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tokenizer):
    """By name, the folder of a model and the folder that was made of it. "int8" is of "rows"."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="needs the extra onnx: pip install 'muxplm[onnx]'")
    path, found = tmp_path_factory.mktemp("engines"), {}
    for name, (head, changes) in MODELS.items():
        build(head, n=N, num_labels=3, **changes).save_pretrained(path / name)
        tokenizer.save_pretrained(path / name)
        found[name] = (path / name, path / f"{name}-onnx")
    found["int8"] = (path / "rows", path / "int8-onnx")
    for name, (source, destination) in found.items():
        done = convert(source, destination, "--precision", "int8" if name == "int8" else "fp32")
        assert done.exit_code == 0, done.exception
    return found


def both(folders, name, rows, length):
    """Logits of random rows of random lengths, by torch and by onnxruntime."""
    generator = torch.Generator().manual_seed(rows * 100 + length)
    ids = torch.randint(2, 50, (rows, length), generator=generator)
    lengths = torch.randint(1, length + 1, (rows, 1), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(length) < lengths).long()}
    source, destination = folders[name]
    with torch.no_grad():
        expected = (MODELS["rows"] if name == "int8" else MODELS[name])[0]
        expected = expected.from_pretrained(source).eval()(**inputs).logits
    return expected, OnnxModel(destination)(**inputs)["logits"]


@pytest.mark.parametrize("length", [1, 7, 31])
@pytest.mark.parametrize("rows", range(1, 2 * N + 2))
@pytest.mark.parametrize("name", MODELS)
def test_any_number_of_rows_of_any_length_gives_torchs_logits(folders, name, rows, length):
    expected, found = both(folders, name, rows, length)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_int8_is_near_and_smaller(folders):
    expected, found = both(folders, "int8", 40, 20)
    error = (found - expected).abs()
    assert 0 < error.mean() < 0.1 * expected.std()
    sizes = [(folders[name][1] / FILE).stat().st_size for name in ("rows", "int8")]
    assert sizes[1] < sizes[0]


@pytest.fixture
def texts():
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, generator.integers(1, 12))) for _ in range(50)]


@pytest.mark.parametrize("settings", [{}, {"composition_seed": 3}, {"copies": 2}])
def test_pipelines_answer_as_with_torch(folders, texts, settings):
    source, destination = map(str, folders["rows"])
    model = OnnxModel(destination)
    found = pipeline("text-classification", model=model, tokenizer=destination, batch_size=8)
    expected = pipeline("text-classification", source, device="cpu")(texts, **settings)
    for ours, theirs in zip(found(texts, **settings), expected, strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)


def predict(model, source, output, *options):
    paths = ["--input", str(source), "--output", str(output)]
    return CliRunner().invoke(app, ["predict", str(model), *paths, *options])


@pytest.mark.parametrize("name", ["rows", "tokens"])
def test_predict_takes_such_a_folder(folders, tmp_path, texts, name):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = []
    for folder, options in zip(folders[name], (["--precision", "fp32"], []), strict=True):
        done = predict(folder, source, tmp_path / "out.jsonl", *options)
        assert done.exit_code == 0, done.exception
        lines = (tmp_path / "out.jsonl").read_text().splitlines()
        found.append([json.loads(line) for line in lines])
    for row, other in zip(*found, strict=True):
        ones, others = (r.get("entities", [r]) for r in (row, other))
        assert [e["score"] for e in others] == pytest.approx([e["score"] for e in ones], abs=1e-4)
        assert [e.get("entity") for e in others] == [e.get("entity") for e in ones]
        assert row.get("prediction") == other.get("prediction")


def test_plain_models_keep_their_segments(folders, tmp_path):
    """BERT tells a text from its pair, so its file takes token_type_ids."""
    torch.manual_seed(0)
    config = make_config().encoder
    config.initializer_range = 0.2
    BertForSequenceClassification(config).save_pretrained(tmp_path / "plain")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})
    tokenizer.save_pretrained(tmp_path / "plain")
    assert convert(tmp_path / "plain", tmp_path / "onnx").exit_code == 0
    found = []
    for model in (str(tmp_path / "plain"), OnnxModel(tmp_path / "onnx")):
        answer = pipeline("text-classification", model=model, tokenizer=str(tmp_path / "plain"))
        pairs = [{"text": a, "text_pair": b} for a, b in zip(WORDS[:9], WORDS[9:18], strict=True)]
        swapped = [{"text": pair["text_pair"], "text_pair": pair["text"]} for pair in pairs]
        found.append([e["score"] for e in answer(pairs) + answer(swapped)])
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[0][:9] != pytest.approx(found[0][9:], abs=1e-4)


# --- What is refused ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, tokenizer):
    """Looks like an ONNX folder: its file is none."""
    make_config(n=N, architectures=["MuxForSequenceClassification"]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / FILE).write_bytes(b"no model")
    (tmp_path / "in.csv").write_text("text\nw1\n")
    return tmp_path


def refused(done, *complaints):
    assert isinstance(done.exception, DataError), done.exception
    assert all(complaint in str(done.exception) for complaint in complaints)
    assert "\n" not in str(done.exception)


def test_without_onnxruntime_it_is_said_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = predict(folder, folder / "in.csv", folder / "out.csv")
    refused(done, str(folder), "pip install 'muxplm[onnx]'")
    assert not (folder / "out.csv").exists()


def test_a_damaged_file_is_named(folders, folder):
    done = predict(folder, folder / "in.csv", folder / "out.csv")
    refused(done, str(folder / FILE), "copy it again")


def test_the_precision_of_a_file_is_its_own(folders, tmp_path):
    (tmp_path / "in.csv").write_text("text\nw1\n")
    model = folders["int8"][1]
    for precision in ("bf16", "fp32"):
        arguments = (tmp_path / "in.csv", tmp_path / "out.csv", "--precision", precision)
        refused(predict(model, *arguments), "leave --precision out")


def test_a_folder_that_is_there_stays(folders):
    source, destination = folders["rows"]
    refused(convert(source, destination), "exists: delete it or name another folder")
