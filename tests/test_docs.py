"""The pages of docs/ that promise to work are run, on small models in the place of the Hub's."""

import json
import random
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import WORDS, build
from conftest import make_config as make_small_config
from test_conversion import SEQUENCE, make_config, make_weights, write
from transformers import AutoConfig, BertTokenizerFast

from muxplm.cli import app
from muxplm.models.modeling import MuxForMaskedLM, MuxForSequenceClassification

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run_command(line: str):
    """One line of a page as the `muxplm` command reads it."""
    program, *arguments = shlex.split(line)
    assert program == "muxplm"
    app(arguments, standalone_mode=False)


def test_from_nothing_to_predictions(tmp_path, monkeypatch, tokenizer):
    monkeypatch.chdir(tmp_path)
    hub_id = "princeton-nlp/muxbert_base_sst2_gaussian_hadamard_index_pos_2"
    theirs = make_config("bert", SEQUENCE)
    write(tmp_path / hub_id, theirs, make_weights(theirs))
    tokenizer.save_pretrained(tmp_path / "google-bert/bert-base-uncased")
    reviews = pd.DataFrame({"id": range(7), "review": WORDS[:7]})
    reviews.to_csv("reviews.csv", index=False)
    convert, predict = blocks("released.md", "bash")
    run_command(convert)
    (code,) = blocks("released.md", "python")
    names = {}
    exec(code, names)
    assert [answer["label"][:6] for answer in names["found"]] == ["LABEL_", "LABEL_"]
    run_command(predict)
    answers = pd.read_csv("answers.csv")
    assert answers["id"].tolist() == list(range(7))
    expected = names["answer"](WORDS[:7])
    assert answers["score"].tolist() == pytest.approx([e["score"] for e in expected], abs=1e-2)


def test_a_file_of_texts(tmp_path, monkeypatch, tokenizer):
    monkeypatch.chdir(tmp_path)
    build(MuxForSequenceClassification, n=2).save_pretrained("my-model")
    tokenizer.save_pretrained("my-model")
    Path("reviews.csv").write_text("id,review\n" + "".join(f"00{i},{WORDS[i]}\n" for i in range(7)))
    predict, onnx = blocks("serving.md", "bash")
    run_command(predict)
    answers = Path("answers.csv").read_text().splitlines()
    assert answers[0] == "id,review,prediction,score"
    assert [line.split(",")[0] for line in answers[1:]] == [f"00{i}" for i in range(7)]
    for library in ("onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="needs the extra onnx")
    for line in onnx.splitlines():
        run_command(line)
    names = {}
    exec(blocks("serving.md", "python")[0], names)
    scores = [float(line.split(",")[-1]) for line in Path("answers.csv").read_text().split()[1:]]
    assert [e["score"] for e in names["answer"](WORDS[:7])] == pytest.approx(scores, abs=1e-6)


def test_the_readmes_model():
    (code,) = blocks("../README.md", "python")
    names = {}
    exec(code, names)
    assert names["model"](torch.full((7, 12), 5)).logits.shape == (7, 2)


def test_the_synthetic_pages_rows(capsys):
    (code,) = blocks("synthetic-language.md", "python")
    names = {}
    exec(code, names)
    assert len(capsys.readouterr().out.splitlines()) >= 3
    sizes = {split: len(columns["premise"]) for split, columns in names["rows"].items()}
    assert sizes["train"] == 4000 and sizes["validation_matched"] == 400


def topics(rows: int, seed: int) -> list[dict]:
    """Five topics that share no word. One text in fifty is longer than the model takes."""
    generator = random.Random(seed)
    found = []
    for i in range(rows):
        words, length = WORDS[i % 5 :: 5], 60 if i % 50 == 0 else generator.randint(3, 8)
        text = " ".join(generator.choice(words) for _ in range(length))
        found.append({"text": text, "label": f"topic {i % 5}"})
    return found


def pretrained_model(folder, tokenizer, dialect):
    """One layer 64 wide with random weights; 40 tokens, which its tokenizer does not know."""
    torch.manual_seed(0)
    encoder = make_small_config(n=2).encoder.to_dict()
    encoder |= {"hidden_size": 64, "num_hidden_layers": 1, "initializer_range": 0.1}
    changes = {"dialect": dialect} | ({"padded_length": 40} if dialect == "released" else {})
    config = AutoConfig.for_model("muxplm", num_instances=2, encoder=encoder, **changes)
    MuxForMaskedLM(config).save_pretrained(folder)
    BertTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(folder)


@pytest.mark.parametrize(("dialect", "learnt"), [("paper", 0.9), ("released", 0.4)])
def test_from_ones_own_data_to_a_model(dialect, learnt, tmp_path, monkeypatch, tokenizer):
    """By the page as it stands. Guessing is right once in five; unit keys learn more slowly."""
    monkeypatch.chdir(tmp_path)
    pretrained_model("pretrained", tokenizer, dialect)
    for seed, (split, rows) in enumerate((("train", 2000), ("validation", 200))):
        Path(f"{split}.jsonl").write_text("\n".join(map(json.dumps, topics(rows, seed))))
    train, answer = blocks("finetuning.md", "python")
    names = {}
    exec(train, names)
    log = names["trainer"].state.log_history
    scores = [entry["eval_accuracy"] for entry in log if "eval_accuracy" in entry]
    assert len(scores) == 3 and scores[-1] > learnt
    exec(answer, names)
    labels = names["data"]["validation"]["label"][:100]
    right = [f["label"] == label for f, label in zip(names["found"], labels, strict=True)]
    assert sum(right) > 100 * learnt


def test_the_page_on_clusters_names_what_there_is():
    """At most ten lines to the first submission; the files that the page names exist."""
    (start,) = blocks("cluster.md", "bash")
    assert len(start.strip().splitlines()) <= 10
    page, root = (DOCS / "cluster.md").read_text(), DOCS.parent
    for file in re.findall(r"(?:config|workflow/profiles)/[\w./]*\w", page):
        assert (root / file).exists(), file
    for test in re.findall(r"`(tests/\w+\.py)`", page):
        assert (root / test).exists()
