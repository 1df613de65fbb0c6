"""The pages of docs/ that promise to work are run, on small models in the place of the Hub's."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from conftest import WORDS, build
from test_conversion import SEQUENCE, make_config, make_weights, write

from muxplm.cli import app
from muxplm.models.modeling import MuxForMaskedLM

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


@pytest.mark.parametrize("dialect", ["paper", "released"])
def test_from_ones_own_data_to_a_model(dialect, tmp_path, monkeypatch, tokenizer):
    monkeypatch.chdir(tmp_path)
    released = {"padded_length": 39} if dialect == "released" else {}
    build(MuxForMaskedLM, n=2, dialect=dialect, **released).save_pretrained("pretrained")
    tokenizer.save_pretrained("pretrained")
    for split in ("train", "validation"):
        rows = [{"text": word, "label": "ab"[i % 2]} for i, word in enumerate(WORDS)]
        Path(f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train, answer = blocks("finetuning.md", "python")
    names = {}
    exec(train.replace("128", "39"), names)
    losses = [
        entry["eval_loss"] for entry in names["trainer"].state.log_history if "eval_loss" in entry
    ]
    assert len(losses) == 3
    exec(answer, names)
    assert {found["label"] for found in names["found"]} <= {"a", "b"}
    assert len(names["found"]) == len(WORDS)
