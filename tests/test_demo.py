"""`muxplm demo`: what it reads back, from whose model, and what it refuses; its model; its notebook."""

import contextlib
import fnmatch
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from muxplm import config
from muxplm.cli import app
from muxplm.data.synthetic import corpus
from muxplm.demo.reading import SENTENCES, SHIPPED, VARIANT, load, read_back, read_group
from muxplm.files import DataError, read_json, write_json
from muxplm.mistakes import ConfigError

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "config/demo.yaml"
TEN = SENTENCES.read_text().splitlines()


@pytest.fixture
def shipped():
    return load()[:2]


def demo(*arguments):
    """The lines that the command prints."""
    result = CliRunner().invoke(app, ["demo", *map(str, arguments)])
    if result.exception:
        raise result.exception
    return result.stdout.splitlines()


def exact(model, tokenizer, sentences):
    found = [r for done in read_back(model, tokenizer, sentences) for r in done.readings]
    assert [reading.sentence for reading in found] == sentences
    return [reading.exact for reading in found]


# --- What is read ------------------------------------------------------------------------------


def test_ten_of_ten_from_the_shipped_model_anywhere(tmp_path):
    """As installed, in a folder that holds nothing."""
    command = Path(sys.executable).with_name("muxplm")
    done = subprocess.run([command, "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert [line.strip() for line in done.stdout.splitlines()] == [
        f"{VARIANT}, primed to read N = 10 sentences back from one pass, shipped with muxplm",
        "",
        *(f"back   {sentence}" for sentence in TEN),
        "",
        "10 of 10 sentences read back word for word.",
        "10 rows of 18 tokens, padding included, became 1 row of 18 vectors, 128 numbers each;",
        "the encoder saw that row, once, and its output was read with 10 keys, one for each row put in.",
    ]


def test_the_encoder_sees_one_row_once(shipped):
    model, tokenizer = shipped
    seen = []
    hook = lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape)  # noqa: E731
    model.model.encoder.register_forward_pre_hook(hook, with_kwargs=True)
    done = read_group(model, tokenizer, TEN)
    assert seen == [(1, 18, 128)] == [(done.rows, done.length, done.width)]


def test_the_sentences_are_not_in_the_training_corpus():
    synthetic = config.load([DEMO]).data.synthetic
    trained = {s for text in corpus(synthetic.documents, synthetic.seed) for s in text.split("\n")}
    language = {s for text in corpus(40, synthetic.seed + 1) for s in text.split("\n")}
    assert len(set(TEN)) == 10
    assert set(TEN) <= language - trained


def test_words_in_no_order_come_back_too(shipped):
    """It reads; it does not guess what a sentence of the language would say."""
    drawn = random.Random(0)
    known = sorted({word for text in corpus(2000, 2) for word in text.split()})
    rows = [" ".join(drawn.choices(known, k=drawn.randint(3, 12))) for _ in range(200)]
    assert sum(exact(*shipped, rows)) > 0.95 * 200


@pytest.mark.parametrize("count", [1, 3, 10, 23])
def test_any_number_of_sentences(shipped, count):
    assert all(exact(*shipped, (TEN * 3)[:count]))


def test_padding_changes_no_score(shipped):
    model, tokenizer = shipped
    scores = []
    for length in (18, 32):
        batch = tokenizer(TEN, padding="max_length", max_length=length, return_tensors="pt")
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"]).logits
        scores.append(logits[:, :18])
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)


# --- That it can fail --------------------------------------------------------------------------


@torch.no_grad()
def test_keys_in_another_order_read_the_neighbours_sentence(shipped):
    model, tokenizer = shipped
    keys = model.model.demultiplexer.keys  # (N, H)
    keys.copy_(keys.roll(1, dims=0))
    assert not any(exact(model, tokenizer, TEN))
    batch = tokenizer(TEN, padding=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]  # (R, L) each
    predicted = model(ids, mask).logits.argmax(dim=-1)  # (R, L)
    real = mask.roll(1, dims=0).bool()
    assert torch.equal(predicted[real], ids.roll(1, dims=0)[real])


@pytest.mark.parametrize(
    "damaged", ["multiplexer.keys", "demultiplexer.keys", "demultiplexer.from_hidden.weight"]
)
@torch.no_grad()
def test_a_damaged_weight_is_seen(shipped, damaged):
    model, tokenizer = shipped
    weight = model.model.state_dict()[damaged]
    torch.manual_seed(0)
    weight.copy_(torch.randn_like(weight) * weight.std())
    assert sum(exact(model, tokenizer, TEN)) <= 1


def test_what_is_wrong_is_shown_as_it_was_read(own_run):
    lines = demo("--config", own_run(damaged=True))
    assert "0 of 10 sentences read back word for word." in lines
    first = lines.index(f"  WRONG  {TEN[0]}")
    assert lines[first + 1].startswith("   read  whom did the idle headmaster help")


def test_unknown_words_are_named(tmp_path):
    (tmp_path / "own.txt").write_text("The doctor met 你 in 2023 .\n\nthe cook slept .\n")
    lines = demo("--sentences", tmp_path / "own.txt")
    first = lines.index("  WRONG  The doctor met 你 in 2023 .")
    assert lines[first + 2] == "         not in the vocabulary: 你, 2023"
    assert sum("not in the vocabulary" in line for line in lines) == 1
    assert lines[-1] == "The last 2 had copies of themselves beside them, to make a group of 10."


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read ([Errno 2] No such file"),
        (b"", "holds no sentence: write one a line"),
        (b"\n \r\n", "holds no sentence: write one a line"),
        (b"\xff\xfe\x00", "cannot be read ('utf-8' codec"),
        (b"the cook .\n\n" + b"the " * 31, "line 3: more than the 32 tokens that the model takes"),
        (b"the cook .\n" + (b"the " * 31 + b"\n") * 7, "lines 2, 3, 4, 5, 6 and 2 more: more than"),
        ("the cook .\n\u200b".encode(), "line 2: no word there"),
    ],
)
def test_a_file_that_cannot_be_read_back_is_one_sentence(tmp_path, content, complaint):
    file = tmp_path / "own.txt"
    if content is not None:
        file.write_bytes(content)
    command = [Path(sys.executable).with_name("muxplm"), "demo", "--sentences", file]
    if content is None:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"muxplm: {file} {complaint}")
        return
    with pytest.raises(DataError) as error:
        demo("--sentences", file)
    assert complaint in str(error.value) and str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_row_of_just_the_models_length_is_taken(tmp_path):
    (tmp_path / "own.txt").write_text("the " * 30)
    lines = demo("--sentences", tmp_path / "own.txt")
    assert any(line.startswith("1 row of 32 tokens") for line in lines)


# --- Whose model -------------------------------------------------------------------------------


@pytest.fixture
def own_run(tmp_path, monkeypatch):
    """Makes what a run of config/demo.yaml leaves, its model the shipped one, and a config of it."""
    monkeypatch.chdir(ROOT)

    def make(damaged=False):
        settings = config.load([DEMO])
        changes = {"results": str(tmp_path / "results"), "scratch": str(tmp_path / "scratch")}
        content = json.loads(settings.model_dump_json()) | changes
        write_json(tmp_path / "own.json", content)
        paths = config.load([tmp_path / "own.json"]).paths
        folder = Path(paths.checkpoint("prime", VARIANT)).parent
        model, tokenizer, _ = load()
        if damaged:
            keys = model.model.demultiplexer.keys  # (N, H)
            keys.data.copy_(keys.data.roll(1, dims=0))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(Path(paths.tokenizer).parent)
        write_json(folder / "run.json", {"validation": {"accuracy": 1.0}})
        write_json(folder / "done.json", {})
        return tmp_path / "own.json"

    return make


def test_a_runs_own_model_comes_first(own_run, tmp_path):
    lines = demo("--config", own_run())
    folder = tmp_path / "results/prime" / VARIANT
    assert lines[0].endswith(f"from one pass, of {folder}")
    assert "10 of 10 sentences read back word for word." in lines


def test_a_run_that_has_not_primed_it_leaves_the_shipped_one(own_run, tmp_path):
    own = own_run()
    (tmp_path / "results/prime" / VARIANT / "done.json").unlink()
    assert demo("--config", own)[0].endswith("shipped with muxplm")
    assert demo("--config", "config/smoke.yaml")[0].endswith("shipped with muxplm")


def test_a_damaged_folder_is_named(own_run, tmp_path):
    own = own_run()
    (tmp_path / "results/prime" / VARIANT / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"model\.safetensors cannot be loaded"):
        demo("--config", own)
    shutil.rmtree(tmp_path / "results/data")
    with pytest.raises(DataError, match=r"tokenizer\.json is missing"):
        demo("--config", own)


# --- What is shipped ---------------------------------------------------------------------------


def test_the_shipped_folder_is_small_and_whole():
    files = {path.name: path for path in SHIPPED.iterdir()}
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert wanted <= set(files)
    assert sum(path.stat().st_size for path in files.values()) <= 2_000_000
    assert {weight.dtype for weight in load_file(files["model.safetensors"]).values()} == {
        torch.float16
    }
    with safe_open(files["model.safetensors"], "pt") as weights:
        assert weights.metadata() == {"format": "pt"}
    assert {weight.dtype for weight in load()[0].parameters()} == {torch.float32}
    for path in files.values():
        places = (ROOT, Path.home(), Path(tempfile.gettempdir()))  # where it may have been made
        assert not any(f"{place}/".encode() in path.read_bytes() for place in places)


def test_a_run_of_the_preset_writes_what_is_shipped(own_run, tmp_path):
    """Rounding to float16 a second time changes nothing; the card is this config's."""
    assert demo("--config", own_run(), "--write", tmp_path / "new/folder") == []
    written = {path.name: path for path in (tmp_path / "new/folder").iterdir()}
    assert set(written) == {path.name for path in SHIPPED.iterdir()}
    for name in set(written) - {"config.json"}:
        assert written[name].read_bytes() == (SHIPPED / name).read_bytes(), name
    configs = [read_json(folder / "config.json") for folder in (SHIPPED, tmp_path / "new/folder")]
    for content in configs:
        content.pop("transformers_version")
    assert configs[0] == configs[1]


def test_what_is_not_primed_is_not_written(own_run, tmp_path):
    own = own_run()
    done = tmp_path / "results/prime" / VARIANT / "done.json"
    done.unlink()
    with pytest.raises(DataError, match=f"{done} is missing: make it with `snakemake"):
        demo("--config", own, "--write", tmp_path / "new")
    with pytest.raises(ConfigError, match=f"leave out {VARIANT}"):
        demo("--config", "config/smoke.yaml", "--write", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_else_lies_in_a_folder_is_kept(own_run, tmp_path):
    own = own_run()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("mine")
    with pytest.raises(DataError, match="holds something else than a model"):
        demo("--config", own, "--write", tmp_path / "mine")
    assert (tmp_path / "mine/README.md").read_text() == "mine"


def test_the_workflow_makes_it(tmp_path):
    target = config.load([DEMO]).paths.shipped
    for page in (DEMO, SHIPPED / "README.md"):
        assert f"--configfile config/demo.yaml -- {target}\n" in page.read_text()
    flags = ["--nolock", "--dry-run", "--configfile", DEMO, "--config", f"results={tmp_path}"]
    command = [
        sys.executable,
        "-m",
        "snakemake",
        *flags,
        "--",
        f"{tmp_path}/shipped/{Path(target).name}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall(r"^rule (\w+):$", done.stdout, re.MULTILINE)
    assert ran == ["tokenizer", "blocks", "prime", "shipped"]


def test_it_is_installed_with_the_code():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["muxplm"]
    for path in (SENTENCES, *SHIPPED.iterdir(), SHIPPED.with_name("card.md.jinja")):
        name = path.relative_to(ROOT / "src/muxplm")
        assert any(fnmatch.fnmatch(str(name), pattern) for pattern in patterns), name


# --- The notebook ------------------------------------------------------------------------------


def test_the_notebook_runs_as_it_stands(tmp_path, monkeypatch):
    """Its cells in order, as Jupyter would run them; where nothing is trained, to the same output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    content = json.loads((ROOT / "notebooks/demo.ipynb").read_text())
    names, printed, stored = {}, [], []
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec("".join(cell["source"]), names)
            printed.append(out.getvalue())
            stored.append("".join(line for output in cell["outputs"] for line in output["text"]))
    assert printed[:3] == stored[:3] and all(stored[:3])
    assert names["right"] > 0.7 * len(names["truth"]) > 2 * names["often"]
