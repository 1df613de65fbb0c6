"""Numerics that changed without a word would leave stale results; comments must repeat no training.

tests/numerics.json holds each stage's integer and code digest, as last judged by a person. After a
change of the code, either raise the integer, or say why the results stay the same:

    python tests/test_numerics.py --record "why"
"""

import argparse
import json
import shutil
from pathlib import Path

import pytest

from muxplm import fingerprint
from muxplm.stages import STAGES

RECORD = Path(__file__).with_name("numerics.json")
# Reports have no integer: they cost nothing, so any change of their code writes them anew.
NUMBERED = [name for name, stage in STAGES.items() if stage.numerics is not None]


def current() -> dict:
    return {
        s: {"integer": STAGES[s].numerics, "code": fingerprint.code_digest(s)} for s in NUMBERED
    }


def record(reason: str):
    """Writes the present state, with the reason where a digest changed and its integer did not."""
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {"stages": {}, "waivers": []}
    now, before = current(), recorded["stages"]
    waived = [s for s in NUMBERED if s in before and now[s] != before[s]]
    waived = [s for s in waived if now[s]["integer"] == before[s]["integer"]]
    waivers = recorded["waivers"]
    if waived:
        waivers = [
            *waivers,
            {"stages": waived, "code": {s: now[s]["code"] for s in waived}, "reason": reason},
        ]
    RECORD.write_text(json.dumps({"stages": now, "waivers": waivers}, indent=1) + "\n")


# --- The guard ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", NUMBERED)
def test_numerics_change_only_with_a_decision(stage):
    recorded, now = json.loads(RECORD.read_text())["stages"][stage], current()[stage]
    raised = now["integer"] - recorded["integer"]
    assert raised >= 0, f"stages.py: the number of {stage!r} was lowered: it is only ever raised"
    files = ", ".join(STAGES[stage].code)
    decide = (
        f"the code of stage {stage!r} changed ({files}).\n"
        f"If that changes its results, raise its number in stages.py: its jobs are repeated.\n"
        "If it does not, leave the integer. Then say why:"
    )
    first = (
        f"the number of {stage!r} in stages.py was raised; now record that:" if raised else decide
    )
    assert now == recorded, f'{first}\n    python tests/test_numerics.py --record "why"'


def test_waivers_give_a_reason():
    for waiver in json.loads(RECORD.read_text())["waivers"]:
        assert waiver["reason"].strip() and waiver["stages"]


# --- The digest --------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A copy of the package that may be edited."""
    copy = tmp_path / "muxplm"
    shutil.copytree(fingerprint.ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", copy)
    yield copy
    fingerprint.code_digest.cache_clear()


def edit(file: Path, old: str, new: str):
    text = file.read_text()
    assert text.count(old) == 1, f"{file} holds {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new))


def changed(before: dict) -> set:
    now = digests()
    return {stage for stage in STAGES if now[stage] != before[stage]}


def digests() -> dict:
    fingerprint.code_digest.cache_clear()
    return {stage: fingerprint.code_digest(stage) for stage in STAGES}


def test_every_file_of_a_stage_exists():
    for stage in STAGES.values():
        assert all((fingerprint.ROOT / name).exists() for name in stage.code)


def test_comments_docstrings_and_layout_do_not_count(source):
    before = digests()
    for file in source.rglob("*.py"):
        file.write_text("# a comment\n\n\n" + file.read_text() + "\n\n# another\n")
    edit(source / "files.py", '"""Bad input; the message', '"""Other words; the message')
    edit(source / "training/loop.py", "The training loop:", "Another sentence about")
    edit(source / "training/checkpoints.py", '"""Removes a finished', '"""Throws away a finished')
    edit(
        source / "training/loop.py",
        "    processes = join()\n",
        "\n    processes = (\n        join()\n    )\n",
    )
    assert changed(before) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("models/multiplexers.py", "** 0.5", "** 1.0", {"prime", "pretrain", "finetune"}),
        ("training/loop.py", "CLIP = 1.0", "CLIP = 2.0", {"prime", "pretrain", "finetune"}),
        ("evaluation/score.py", "GROUPS = 32", "GROUPS = 31", {"score"}),
        ("data/prepare.py", "2_000_000", "1_000_000", {"task_data", "tokenizer", "blocks"}),
        ("tasks.py", '"matthews"', '"accuracy"', {"task_data", "tables", "claims"}),
        (
            "reporting/tables.py",
            "Extension (not",
            "Extensions (not",
            {"tables", "figures", "claims"},
        ),
        ("evaluation/throughput.py", "SWEEP_PASSES = 2", "SWEEP_PASSES = 3", {"throughput"}),
        ("training/fetching.py", '"stage": "released"', '"stage": "fetched"', {"released"}),
        ("plan.py", "WIDTH = 100", "WIDTH = 99", set()),
        ("cli.py", "sort_keys=False", "sort_keys=True", set()),
    ],
)
def test_changed_code_is_seen_by_the_stages_it_concerns(source, file, old, new, stages):
    before = digests()
    edit(source / file, old, new)
    assert changed(before) >= stages
    assert bool(changed(before)) == bool(stages)


def test_a_new_file_of_a_package_is_seen(source):
    before = digests()
    (source / "data/synthetic/extra.py").write_text("x = 1\n")
    assert changed(before) == {"task_data", "tokenizer", "blocks"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", metavar="WHY", required=True)
    record(parser.parse_args().record)
