"""A small finished run, its exported model, a mirror of data and a checkpoint like the authors'."""

import contextlib
import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fabricated import fabricate
from presets import merged
from test_conversion import MLM, make_config, make_weights, write
from test_stages import CHANGES

from muxplm import cli, hub
from muxplm import config as configuration
from muxplm.data import synthetic
from muxplm.tasks import TASKS

MODEL, PLAIN = "mux-bert-base-n2", "bert-base"
ROWS = 12


def run(command: list[str]) -> tuple[int, str]:
    """`muxplm COMMAND` in this process: exit code and what it said. What it does not catch is raised."""
    said, arguments = io.StringIO(), sys.argv
    sys.argv = ["muxplm", *command]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(
            exit.code is not None
        ), said.getvalue()
    finally:
        sys.argv = arguments
    return 0, said.getvalue()


@contextlib.contextmanager
def built(folder: Path):
    """`build` in the empty `folder`, the working directory meanwhile; yields its `snapshot`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build(folder)
        yield snapshot(folder)


def build(folder: Path):
    """Fills `folder`, which has to be the working directory."""
    shape = CHANGES["shapes"]["base"]
    config = merged(
        CHANGES,
        {
            "families": ["bert", "mux-bert"],
            "sizes": ["base"],
            "shapes": {"base": shape},
            "training_seeds": [1],
            "composition_seeds": [1, 2],
            "precision": "fp32",
            "scratch": "scratch",
        },
    )
    (folder / "config").mkdir()
    (folder / configuration.DEFAULT).write_text(yaml.safe_dump(config))
    mirror(folder / "mirror")
    steps = dict.fromkeys(TASKS, 3)
    local = {"data": {"source": "local"}, "data_folder": "mirror", "results": "local"}
    local |= {"tasks": list(TASKS), "finetune": {"steps": steps}}
    (folder / "local.json").write_text(json.dumps(local))

    settings = configuration.load()
    commands = ["tokenizer", "blocks", f"prime {MODEL}", f"pretrain {MODEL}", f"pretrain {PLAIN}"]
    commands += [f"task-data {task} {split}" for task in settings.tasks for split in hub.SPLITS]
    commands += [f"finetune {model} --tasks sst2,pos" for model in (MODEL, PLAIN)]
    for command in commands:
        code, said = run(command.split())
        assert code == 0, said
    fabricate(settings, "table1", "table4", "composition")
    for kind, task in (("answers", "sst2"), ("tags", "pos")):
        code, said = run(["export", MODEL, task, kind])
        assert code == 0, said
    (folder / "in.csv").write_text("id,text\n1,the cat\n2,a dog\n")
    theirs = make_config("bert", MLM)
    write(folder / "theirs", theirs, make_weights(theirs))


def mirror(folder: Path):
    """Every task's rows, and a corpus, in the Hub's layout."""
    for task in TASKS:
        for parts in hub.SPLITS.values():
            made = synthetic.task(task, ROWS, ROWS, 1)
            for part in parts:
                named = part if part in made else f"{part}_matched"
                if named in made:
                    file = folder / hub.local_file(task, part)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    pq.write_table(pa.table(made[named]), file)
    texts = list(synthetic.corpus(300, 1))
    (folder / hub.LOCAL_CORPUS).mkdir()
    pq.write_table(pa.table({"text": texts}), folder / hub.LOCAL_CORPUS / "text.parquet")


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def restore(folder: Path, before: dict[str, bytes]):
    """The folder's files as they were in `before`; only those that differ are written."""
    kept = {str(parent) for name in before for parent in Path(name).parents}
    for path in sorted(folder.rglob("*"), reverse=True):
        name = str(path.relative_to(folder))
        if path.is_symlink() or (path.is_file() and name not in before):
            path.unlink()
        elif path.is_dir() and name not in kept:
            path.rmdir()
    for name, content in before.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
