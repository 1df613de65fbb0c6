"""`muxplm export`: a folder that says what it is, and works without muxplm for who trusts it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fabricated import settings_for
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline
from typer.testing import CliRunner

from muxplm import config
from muxplm.cli import app
from muxplm.data.prepare import prepare_tokenizer, read_tokenizer
from muxplm.files import DataError, sha256, write_json
from muxplm.model_config import model_config
from muxplm.models.build import CLASSES
from muxplm.reporting import captions
from muxplm.reporting.card import _speed
from muxplm.tasks import TASKS
from muxplm.training.stages import label_names

SMOKE = Path("config/smoke.yaml")
LIMIT = 32  # config/smoke.yaml's max_length


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What a run of the smoke preset leaves of a few models, untrained: tokenizer, cells, scores."""
    folder = tmp_path_factory.mktemp("run") / "results"
    changes = {"results": str(folder), "ablations": [{"multiplexer": "contextual"}]}
    settings = config.validate(config.load([SMOKE]).model_dump() | changes)
    prepare_tokenizer(settings)
    tokenizer = read_tokenizer(settings)
    for name in ("bert-base", "mux-bert-base-n2", "mux-bert-base-n2-contextual", "tmux-base-n2"):
        for task in ("sst2", "mnli", "stsb", "ner"):
            torch.manual_seed(0)
            model = model_config(settings, settings.variants[name], tokenizer)
            for key, value in label_names(TASKS[task]).items():
                setattr(model, key, value)
            cell = Path(settings.paths.finetuned(name, task, 1)).parent
            CLASSES[TASKS[task].kind].from_config(model).save_pretrained(cell)
            write_json(cell / "run.json", {"stage": "finetune"})
            write_json(cell / "done.json", {"sha256": sha256(cell / "model.safetensors")})
            metric = TASKS[task].metric
            runs = [
                {"training_seed": 1, "composition_seed": seed, "metrics": {metric: 0.5 + seed / 10}}
                for seed in (1, 2)
            ]
            scores = {
                "rows": 37,
                "majority": {} if task == "stsb" else {metric: 0.25},
                "scores": runs,
            }
            write_json(settings.paths.scores(name, task), scores)
    (folder / "config").mkdir()
    (folder / "config/0123456789ab.json").write_text(settings.model_dump_json())
    return folder


def export(results, *arguments):
    arguments = ["export", *arguments, "--results", results]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def exported(results, name, task, folder):
    result = export(results, name, task, folder)
    assert result.exit_code == 0, result.exception
    return folder


def python(code, folder, **environment):
    """Runs code where muxplm cannot be imported, the Hub not reached and nothing is cached."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.parent / "home")}
    blocked = "import sys\nsys.modules['muxplm'] = None\n"
    return subprocess.run(
        [sys.executable, "-c", blocked + code],
        cwd=folder.parent,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | offline | environment,
        capture_output=True,
        text=True,
    )


def snippets(folder):
    """The Python of a card."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


# --- The folder --------------------------------------------------------------------------------


def test_a_run_is_exported_from_anywhere(results, tmp_path, monkeypatch):
    """Also a run that was moved since: its settings still say where it was."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moved").symlink_to(results)
    folder = exported("moved", "mux-bert-base-n2", "sst2", Path("deep/mine"))
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "run.json"} <= {
        path.name for path in folder.iterdir()
    }
    without = CliRunner().invoke(app, ["export", "mux-bert-base-n2", "sst2", "other"])
    assert "name a run with --results" in str(without.exception)


def test_what_is_there_or_is_not_is_named(results, tmp_path):
    (tmp_path / "there").mkdir()
    for arguments, complaint in (
        (("mux-bert-base-n2", "sst2", tmp_path / "there"), "there exists: delete it"),
        (("mux-bert-base-n2", "pos", tmp_path / "new"), "pos/seed1/done.json is missing"),
        (("mux-bert-base-n3", "sst2", tmp_path / "new"), "did you mean"),
    ):
        assert complaint in str(export(results, *arguments).exception)
    error = export(tmp_path / "there", "mux-bert-base-n2", "sst2", tmp_path / "new").exception
    assert isinstance(error, DataError) and "there/config holds no settings" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("name", "limit"), [("bert-base", LIMIT), ("mux-bert-base-n2", LIMIT), ("tmux-base-n2", LIMIT)]
)
def test_the_tokenizer_cuts_to_what_the_model_takes(results, tmp_path, name, limit):
    """T-MUX's prefix comes on top of the text."""
    folder = exported(results, name, "sst2", tmp_path / "mine")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("a " * 100, truncation=True, return_tensors="pt")["input_ids"]
    assert ids.shape[1] == limit
    model = AutoModel.from_pretrained(folder).eval()
    assert model(ids).last_hidden_state.shape[1] == limit
    with pytest.raises((RuntimeError, IndexError)):
        model(torch.cat([ids, ids], dim=1))


# --- The card ----------------------------------------------------------------------------------


def test_the_card_says_what_was_measured_and_on_what(results, tmp_path):
    folder = exported(results, "mux-bert-base-n2", "sst2", tmp_path / "mine")
    loaded = ModelCard.load(folder / "README.md")
    data = loaded.data
    assert (data.license, data.language, data.pipeline_tag) == (
        "apache-2.0",
        "en",
        "text-classification",
    )
    (result,) = data.eval_results
    assert (result.dataset_type, result.dataset_name) == ("synthetic-sst2", "SST-2 (synthetic)")
    assert result.metric_value == 65.0
    text = loaded.text
    assert "# mux-bert-base-n2, fine-tuned on SST-2 (synthetic)" in text
    assert (
        "| 65.0 ± 5.0, best 70.0 |" in text and "| always the most frequent label | 25.0 |" in text
    )
    assert f"at most {LIMIT} tokens" in text and "**The data is synthetic**" in text
    assert "Licence: Apache-2.0." in text and "transformers==" in text
    assert "any length" not in text and "nan" not in text


def test_the_card_of_a_model_that_was_timed_alone(tmp_path):
    """Without a plain model beside it no speed-up is known, and no table's caption has one."""
    settings = settings_for(tmp_path)
    timed = {"reference": None, "device": "a machine"}
    timed["models"] = {"mux-bert-base-n2": {"speedup": {"median": None}}}
    write_json(settings.paths.throughput("base"), timed)
    assert _speed(settings, "mux-bert-base-n2") == {"speedup": None}
    assert "no plain model was timed" in captions.speed(SimpleNamespace(throughput=timed))


def test_the_card_of_a_regression_has_no_most_frequent_label(results, tmp_path):
    text = (
        exported(results, "mux-bert-base-n2", "stsb", tmp_path / "mine") / "README.md"
    ).read_text()
    assert "most frequent" not in text


def test_the_card_names_a_repository_only_if_the_package_does(results, tmp_path, monkeypatch):
    folder = exported(results, "mux-bert-base-n2", "sst2", tmp_path / "mine")
    assert "pip install git+" not in (folder / "README.md").read_text()
    monkeypatch.setattr("muxplm.reporting.card._repository", lambda _: "https://example.org/muxplm")
    folder = exported(results, "mux-bert-base-n2", "sst2", tmp_path / "other")
    assert "pip install git+https://example.org/muxplm" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "task"),
    [("bert-base", "mnli"), ("mux-bert-base-n2", "mnli"), ("mux-bert-base-n2", "ner")],
)
def test_the_cards_code_runs_as_it_stands(results, tmp_path, monkeypatch, name, task):
    folder = exported(results, name, task, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    code = snippets(folder)
    assert len(code) == (1 if name == "bert-base" else 2)
    names = {}
    exec(code[0], names)
    texts = ["a", "b", "a " * 100]
    assert len(names["answer"](texts)) == 3
    done = python(code[-1] + f"\nprint(len(answer({texts})))", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3\n"


# --- Its code ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("mux-bert-base-n2", "sst2"),
        ("mux-bert-base-n2-contextual", "ner"),
        ("tmux-base-n2", "sst2"),
    ],
)
def test_without_muxplm_the_folders_own_code_answers_alike(results, tmp_path, name, task):
    folder = exported(results, name, task, tmp_path / "mine")
    kind = pipeline(
        "text-classification" if task == "sst2" else "token-classification", str(folder)
    )
    ids = torch.arange(5, 20).view(3, 5)
    with torch.no_grad():
        expected = kind.model(ids).logits
    head = "Sequence" if task == "sst2" else "Token"
    code = f"""
import torch
from transformers import AutoModelFor{head}Classification as Auto
model = Auto.from_pretrained("mine", trust_remote_code=True).eval()
with torch.no_grad():
    print(model(torch.arange(5, 20).view(3, 5)).logits.tolist())
"""
    done = python(code, folder)
    assert done.returncode == 0, done.stderr
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), expected, atol=1e-6)


def test_without_trust_no_code_runs(results, tmp_path):
    folder = exported(results, "mux-bert-base-n2", "sst2", tmp_path / "mine")
    for path in folder.glob("*.py"):
        path.write_text("print('it ran')")
    done = python("from transformers import AutoModel\nAutoModel.from_pretrained('mine')", folder)
    assert done.returncode != 0 and "it ran" not in done.stdout
    assert "trust_remote_code=True" in done.stderr
    assert type(AutoConfig.from_pretrained(folder)).__module__ == "muxplm.models.configuration"


def test_plain_models_bring_no_code(results, tmp_path):
    folder = exported(results, "bert-base", "sst2", tmp_path / "mine")
    assert not list(folder.glob("*.py"))
    assert "auto_map" not in json.loads((folder / "config.json").read_text())


# --- For onnxruntime ---------------------------------------------------------------------------


def test_a_run_is_exported_for_onnxruntime(results, tmp_path, monkeypatch):
    """Its card's code runs, and answers as the folder with weights does."""
    for library in ("onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="needs the extra onnx")
    weights = exported(results, "mux-bert-base-n2", "ner", tmp_path / "weights")
    arguments = ("mux-bert-base-n2", "ner", tmp_path / "mine", "--format", "onnx")
    assert export(results, *arguments).exit_code == 0
    files = {path.name for path in (tmp_path / "mine").iterdir()}
    assert files == {"model.onnx", *(path.name for path in weights.iterdir())} - {
        "model.safetensors",
        *(path.name for path in weights.glob("*.py")),
    }
    monkeypatch.chdir(tmp_path)
    (code,) = snippets(tmp_path / "mine")
    names = {}
    exec(code, names)
    texts = ["a", "b", "a " * 100]
    expected = pipeline("token-classification", "weights")(texts, whole_words=True)
    for found, words in zip(names["answer"](texts), expected, strict=True):
        assert [e["entity"] for e in found] == [e["entity"] for e in words]
        scores = [e["score"] for e in words]
        assert [e["score"] for e in found] == pytest.approx(scores, abs=1e-4)


def test_a_precision_is_of_onnx_files(results, tmp_path):
    arguments = ("mux-bert-base-n2", "ner", tmp_path / "mine", "--precision", "int8")
    assert "add --format onnx" in str(export(results, *arguments).exception)


def test_what_is_only_served_otherwise_is_named_as_it_was_trained(results, tmp_path):
    said = str(export(results, "mux-bert-base-n2-int8", "ner", tmp_path / "mine").exception)
    assert said == "mux-bert-base-n2-int8 is mux-bert-base-n2 in int8: export mux-bert-base-n2"
