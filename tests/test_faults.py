"""Faults that a run meets: a process in one's way, a full disk, files that are not what they were."""

import json
import os
import resource
import shlex
import signal
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from malformed import world
from malformed.weights import OTHER
from malformed.world import MODEL, PLAIN

from muxplm import config as configuration
from muxplm import files, recipes, trained
from muxplm.files import DataError
from muxplm.training import checkpoints


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with world.built(folder) as whole:
        yield folder, whole


@pytest.fixture
def run(finished):
    """The finished run, the working directory; put right again afterwards."""
    folder, whole = finished
    yield folder
    world.restore(folder, whole)


def muxplm(command: str) -> tuple[int, str]:
    return world.run(shlex.split(command))


# --- Adoption -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["done.json", None])
def test_whole_weights_are_adopted(run, lost):
    cell = run / f"results/finetune/{PLAIN}/pos/seed1"
    before = (cell / "model.safetensors").stat()
    if lost:
        (cell / lost).unlink()
    code, said = muxplm(f"finetune {PLAIN} --tasks pos")
    assert (code, said) == (0, f"finetune {PLAIN} pos: 0 of 1 to train\n")
    assert (cell / "done.json").exists()
    assert (cell / "model.safetensors").stat() == before


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_what_a_process_left_that_was_killed_after_its_last_step_is_removed(run, stage):
    """The weights were written, the checkpoints and the lock not yet removed."""
    settings = configuration.load()
    if stage == "finetune":
        recipe, title = recipes.finetune(settings, PLAIN, "pos", 1), f"{PLAIN}-pos-seed1"
    else:
        recipe, title = recipes.pretrain(settings, PLAIN), PLAIN
    scratch = Path(settings.paths.scratch_folder(stage, title, recipes.digest(recipe)))
    (scratch / "step-10").mkdir(parents=True)
    (scratch / "step-10/state.safetensors").write_text("")
    Path(f"{scratch}.lock").touch()
    code, said = muxplm(f"{stage} {PLAIN}" + (" --tasks pos" if stage == "finetune" else ""))
    assert code == 0 and ("0 of 1 to train" in said or "is current" in said)
    assert not scratch.exists() and not Path(f"{scratch}.lock").exists()


DAMAGED = {
    "config.json": "problem_type is gone",
    "model.safetensors": "cut",
    "run.json": "{",
    "run.json, a list": "[]",
    "run.json, a number": '{"recipe": 3}',
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_is_not_whole_is_trained_again_to_the_same_files(run, damage):
    cell = run / f"results/finetune/{PLAIN}/pos/seed1"
    names = ("config.json", "model.safetensors", "done.json")
    before = {name: (cell / name).read_bytes() for name in names}
    (cell / damage.partition(",")[0]).write_text(DAMAGED[damage])
    code, said = muxplm(f"finetune {PLAIN} --tasks pos")
    assert code == 0 and "1 of 1 to train" in said
    assert {name: (cell / name).read_bytes() for name in names} == before


def test_runs_of_earlier_versions_are_adopted(run):
    """Their run.json has the checksum of the weights alone."""
    file = run / f"results/finetune/{PLAIN}/pos/seed1/run.json"
    content = json.loads(file.read_text())
    del content["files"]
    file.write_text(json.dumps(content))
    assert "0 of 1 to train" in muxplm(f"finetune {PLAIN} --tasks pos")[1]


# --- Two processes that train one cell -----------------------------------------------------------


def test_a_second_training_waits_and_adopts(run):
    """As a cluster's job that is submitted again while the first one still runs."""
    settings = configuration.load()
    path = settings.paths.checkpoint("pretrain", PLAIN)
    recipe = recipes.pretrain(settings, PLAIN)
    scratch = settings.paths.scratch_folder("pretrain", PLAIN, recipes.digest(recipe))
    folder = Path(path).parent
    aside = folder.with_name("aside")
    folder.rename(aside)
    done = []
    with checkpoints.alone(scratch):
        second = threading.Thread(target=lambda: done.append(muxplm(f"pretrain {PLAIN}")))
        second.start()
        for _ in range(3):
            time.sleep(0.1)
            assert second.is_alive() and not folder.exists()
        aside.rename(folder)
    second.join()
    ((code, said),) = done
    assert code == 0 and "is held by another training: waiting" in said and "is current" in said
    assert trained.adopt(path, recipe)
    assert not Path(f"{scratch}.lock").exists()


def test_of_several_processes_none_waits(tmp_path, monkeypatch):
    with checkpoints.alone(tmp_path / "a"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with (
            pytest.raises(DataError, match=r"a\.lock is held by another training"),
            checkpoints.alone(tmp_path / "a"),
        ):
            pass
        monkeypatch.setenv("RANK", "1")
        with checkpoints.alone(tmp_path / "a"):  # the first of them holds it for all
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("says", checkpoints.NO_LOCKS)
def test_a_disk_without_locks_takes_trainings(tmp_path, monkeypatch, says):
    def flock(*_):
        raise OSError(says, os.strerror(says))

    monkeypatch.setattr(checkpoints.fcntl, "flock", flock)
    with checkpoints.alone(tmp_path / "a"):
        assert (tmp_path / "a.lock").exists()


# --- A full disk ---------------------------------------------------------------------------------


@pytest.fixture
def almost_full():
    """No file may grow beyond 600 bytes: what is written beyond is refused, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize(
    "command",
    [
        "tokenizer",
        "blocks",
        "task-data sst2 train",
        f"pretrain {PLAIN} --config other.json",
        f"finetune {MODEL} --tasks sst2 --config other.json",
        f"score {MODEL} --tasks sst2",
        "table table1",
        f"export {MODEL} sst2 exported",
        "convert theirs ours",
        "predict answers --input in.csv --output out.parquet",
    ],
)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(run, command, almost_full):
    (run / "other.json").write_text(json.dumps(OTHER))
    before = world.snapshot(run)
    almost_full()
    code, said = muxplm(command)
    (line,) = [line for line in said.splitlines() if line.startswith("muxplm: ")]
    assert code == 1 and "cannot be written (" in line and "Traceback" not in said
    after = world.snapshot(run)
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if ".draft" in name]


# --- One way of writing, one of reading back -------------------------------------------------------


def test_content_of_another_shape_is_named():
    for mistake in (KeyError("a"), TypeError("b"), AttributeError("c"), IndexError("d")):
        with (
            pytest.raises(DataError, match=r"x\.json is not what its step writes"),
            files.as_written("x.json"),
        ):
            raise mistake
    with pytest.raises(ZeroDivisionError), files.as_written("x.json"):
        raise ZeroDivisionError


# --- A word without end ------------------------------------------------------------------------------


def test_a_word_of_a_million_letters_changes_no_vocabulary(run):
    """And does not keep the tokenizer's trainer busy for hours."""
    file = run / "mirror/corpus/text.parquet"
    texts = pq.read_table(file)["text"].to_pylist()
    settings = configuration.load(["local.json"])
    found = []
    for more in ("", " " + "abcdefghij" * 100_000):
        pq.write_table(pa.table({"text": [text + more for text in texts[:3]] + texts[3:]}), file)
        assert muxplm("tokenizer --config local.json") == (0, "")
        found.append(Path(settings.paths.tokenizer).read_bytes())
    assert found[0] == found[1]


# --- Provenance ------------------------------------------------------------------------------------


def runs_of(target: str, *options: str) -> tuple[dict[str, list[str]], list[str]]:
    """The runs that are listed, by name, and the lines about all of them."""
    code, said = muxplm(" ".join(["provenance", target, *options]))
    assert code == 0, said
    lines = said.splitlines()
    listed = [line.split("\t") for line in lines[1:] if not line.startswith("# ")]
    return {run[0]: run[1:] for run in listed}, [line for line in lines if line.startswith("# ")]


def test_the_runs_behind_a_table(run):
    assert muxplm(f"score {MODEL} --tasks sst2")[0] == 0
    found, _ = runs_of("results/tables/table1.tex")
    settings = configuration.load()
    digest = recipes.digest(recipes.finetune(settings, MODEL, "sst2", 1))
    recipe, state, version, *_, precision, seconds = found[f"finetune {MODEL} sst2 seed 1"]
    assert (recipe, state, version, precision) == (digest, "current", "0.1.0", "fp32")
    assert float(seconds) >= 0
    for name in (f"prime {MODEL}", f"pretrain {MODEL}", f"pretrain {PLAIN}", f"score {MODEL} sst2"):
        assert found[name][1] == "current"
    assert found[f"finetune {MODEL} stsb seed 1"][1] == "missing"
    assert list(found).index(f"prime {MODEL}") < list(found).index(f"pretrain {MODEL}")


def test_a_table_of_other_settings_says_so(run):
    assert muxplm(f"score {MODEL} --tasks sst2")[0] == 0
    assert "not of this config" not in muxplm("table table1")[1]
    (run / "other.json").write_text(json.dumps(OTHER))
    _, said = muxplm("table table1 --config other.json")
    assert f"1 of its files are not of this config, results/scores/{MODEL}/sst2.json" in said
    found, lines = runs_of("results/tables/table1.tex", "--config other.json")
    assert found[f"score {MODEL} sst2"][1] == found[f"pretrain {PLAIN}"][1] == "STALE"
    assert found[f"prime {MODEL}"][1] == "current"
    assert " STALE" in lines[0]


def test_two_versions_in_one_table_are_named(run):
    file = run / f"results/pretrain/{PLAIN}/run.json"
    content = json.loads(file.read_text())
    content["made_with"]["muxplm"] = "0.0.9"
    file.write_text(json.dumps(content))
    _, lines = runs_of("results/tables/table1.tex")
    assert "# more than one version: 0.0.9, 0.1.0" in lines


@pytest.mark.parametrize("target", ["muxology_entropy", "training_curves"])
def test_the_runs_behind_a_figure_of_pre_trained_models(run, target):
    found, _ = runs_of(f"results/figures/{target}.pdf")
    assert found[f"prime {MODEL}"][1] == found[f"pretrain {MODEL}"][1] == "current"


@pytest.mark.parametrize("path", ["results/tables/table99.tex", "table1.tex", "results/table1.tex"])
def test_no_table_of_this_config(run, path):
    code, said = muxplm(f"provenance {path}")
    assert code == 1 and said.startswith(f"muxplm: {path} is no table or figure of this config")
