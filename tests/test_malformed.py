"""Whatever is put in, a user reads one sentence, and nothing is left half-written."""

import random
import shlex

import pytest
from malformed import commands, configs, data, rows, theirs, weights, world

CASES = {
    f"{kind.__name__.split('.')[1]}: {case.title}": case
    for kind in (configs, data, rows, weights, theirs, commands)
    for case in kind.cases()
}
SAMPLE, SEED = 90, 0


def pytest_generate_tests(metafunc):
    names = sorted(CASES)
    if not metafunc.config.getoption("every_input"):
        names = sorted(random.Random(SEED).sample(names, SAMPLE))
    metafunc.parametrize("name", names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        world.build(folder)
        yield folder, world.snapshot(folder)


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
