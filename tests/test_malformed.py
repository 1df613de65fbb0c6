"""Whatever is put in, a user reads one sentence, and nothing is left half-written."""

import random
import shlex

import pytest
from malformed import commands, configs, data, rows, theirs, weights, world

KINDS = (configs, data, rows, weights, theirs, commands)
CASES = {f"{kind.__name__.split('.')[1]}: {c.title}": c for kind in KINDS for c in kind.cases()}
SAMPLE, SEED = 5, 0  # of each kind


def pytest_generate_tests(metafunc):
    names = sorted(CASES)
    if not metafunc.config.getoption("every_input"):
        random.Random(SEED).shuffle(names)
        kind_of = {name: name.partition(":")[0] for name in names}
        kinds = sorted(set(kind_of.values()))
        names = [n for kind in kinds for n in [n for n in names if kind_of[n] == kind][:SAMPLE]]
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", names)


def test_there_are_many():
    assert len(CASES) >= 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with world.built(folder) as whole:
        yield folder, whole


def test_a_refusal(name, folder):
    case, (folder, whole) = CASES[name], folder
    case.damage(folder)
    before = world.snapshot(folder)
    try:
        code, said = world.run(shlex.split(case.command))
        after = world.snapshot(folder)
    finally:
        world.restore(folder, whole)
    lines = [line for line in said.splitlines() if line.startswith("muxplm: ")]
    assert code not in (0, None), said
    assert "Traceback" not in said
    assert len(said[said.index("muxplm: ") :].splitlines()) <= 3 if lines else False, said
    assert any(named in " ".join(lines) for named in case.named), said
    assert after == before, set(after.items()) ^ set(before.items())
