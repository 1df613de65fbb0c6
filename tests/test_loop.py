"""The training loop against an independent one, killed, damaged, divided between processes."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import small_training
import torch
from safetensors.torch import load_file, save_file
from small_training import CASES, KINDS, ROWS, STEPS, Words, make_data, make_model, run
from transformers import Trainer

from muxplm import files
from muxplm.data.collation import MaskTokens, uniform
from muxplm.files import DataError
from muxplm.settings import Training
from muxplm.training import loop
from muxplm.training.loop import learning_rate
from muxplm.training.processes import Processes
from muxplm.training.rows import Rows


def same(one, other) -> bool:
    """Weights and logs, to the bit."""
    equal = all(torch.equal(weight, other[0][name]) for name, weight in one[0].items())
    return equal and one[1:] == other[1:]


def close(one, other, tolerance=1e-6):
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=tolerance, msg=name)


def moved(objective, n, weights):
    before = dict(make_model(objective, n).named_parameters())
    return max((weights[name] - before[name]).abs().max().item() for name in before)


# --- What chance decides ------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4, 7])
def test_noise_depends_on_the_row_alone(width):
    whole = uniform((3, 0), 0, 10, width)
    pieces = [uniform((3, 0), first, rows, width) for first, rows in ((0, 4), (4, 1), (5, 5))]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert not np.isin(uniform((3, 1), 0, 10, width), whole).any()
    assert not np.isin(uniform((4, 0), 0, 10, width), whole).any()
    assert len(np.unique(whole)) == whole.size


@pytest.mark.parametrize(("objective", "n"), [("mlm", 5), ("rtd", 5), ("tagging", 5)])
def test_a_row_is_the_same_however_the_stream_is_cut(objective, n):
    data, collate = make_data(objective)

    def read(cuts):
        rows, found = Rows(data, collate, n, seed=7, longest=12), []
        for first, last in cuts:
            batch, items = rows.batch(first, last - first)
            shown = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
            picked = batch["instance"].repeat_interleave(n, dim=0)  # (R/N, L) -> (R, L)
            own = picked == (torch.arange(len(shown)) % n)[:, None]
            assert items.tolist() == [(batch["labels"] != -100).sum(), (own & shown.bool()).sum()]
            assert own.sum() == batch["instance"].numel()
            for i, real in enumerate(shown.bool()):
                found.append([t[i][real].tolist() for t in (batch["input_ids"], batch["labels"])])
                found[-1].append(picked[i][real].tolist())
        return found

    whole = read([(0, 150)])
    assert read([(0, 50), (50, 55), (55, 150)]) == whole
    assert len({row[2][0] for row in whole}) == n


def test_each_epoch_is_a_permutation_of_its_own():
    rows = Rows(np.arange(120).reshape(60, 2), lambda rows, noise: {"labels": rows}, 1, seed=7)

    def drawn(first, count, rows=rows):
        return (rows.batch(first, count)[0]["labels"][:, 0] // 2).tolist()

    epochs = [drawn(60 * i, 60) for i in range(3)]
    assert [sorted(epoch) for epoch in epochs] == 3 * [list(range(60))]
    assert epochs[0] != epochs[1] != epochs[2]
    assert drawn(50, 100) == [*epochs[0], *epochs[1], *epochs[2]][50:150]
    other = Rows(rows.dataset, rows.collate, 1, seed=8)
    assert drawn(0, 60, other) != epochs[0]


@pytest.mark.parametrize(("objective", "n"), [("mlm", 1), ("mlm", 5), ("rtd", 5)])
def test_short_rows_are_the_blocks_cut_and_share_a_group_with_other_blocks(objective, n):
    data, collate = make_data(objective)
    rows = Rows(data, collate, n, seed=7, longest=12)
    cut = Rows(data, collate, n, seed=7, longest=12, short=(30, 4))
    for first in (0, 20, 30):
        (whole, items), (found, cut_items) = rows.batch(first, 10), cut.batch(first, 10)
        if first < 30:
            together = {"input_ids": n, "labels": n, "instance": 1}
            for name, tensor in whole.items():
                places = itertools.product(
                    range(len(tensor) // together[name]), (0, 4, 8), range(together[name])
                )
                whole[name] = torch.stack(
                    [tensor[group * together[name] + i, at : at + 4] for group, at, i in places]
                )
        assert found.keys() == whole.keys()
        assert all(torch.equal(tensor, whole[name]) for name, tensor in found.items())
        assert np.array_equal(items, cut_items)


def test_as_many_steps_as_asked_are_of_short_rows(tmp_path, monkeypatch, killed_at):
    lengths, batch_of = [], Rows.batch

    def record(self, first, count):
        found = batch_of(self, first, count)
        lengths.append((self.in_order, *found[0]["input_ids"].shape))
        return found

    monkeypatch.setattr(Rows, "batch", record)
    how = {"accumulation": 2, "short": {"length": 4, "steps": 3}}
    whole = run("mlm", 5, tmp_path / "whole", **how)
    trained = [shape for in_order, *shape in lengths if not in_order]
    assert trained == 6 * [[3 * 5 * ROWS, 4]] + 6 * [[5 * ROWS, 12]]
    assert all(length == 12 for in_order, _, length in lengths if in_order)
    assert not same(run("mlm", 5, tmp_path / "long", accumulation=2), whole)
    killed_at(3)
    with pytest.raises(KeyboardInterrupt):
        run("mlm", 5, tmp_path / "killed", **how)
    killed_at(None)
    assert same(run("mlm", 5, tmp_path / "killed", **how), whole)


# --- Against another loop -----------------------------------------------------------------------


def by_hand(model, batches, lr, warmup, decay, epsilon):
    """The textbook's AdamW with linear warm-up and decay and clipping; losses and norms on the way."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    losses, norms = [], []
    for step, batch in enumerate(batches):
        loss = model(**batch).loss
        gradients = torch.autograd.grad(loss, parameters)
        losses.append(loss.item())
        norms.append(sum((g.double() ** 2).sum() for g in gradients).sqrt().item())
        rate = lr * min(step / warmup, (len(batches) - step) / (len(batches) - warmup))
        for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
            g = g / max(1, norms[-1])
            m.copy_(0.9 * m + 0.1 * g)
            v.copy_(0.999 * v + 0.001 * g * g)
            m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            decayed = decay * p if p.dim() > 1 else 0
            p.data -= rate * (m_hat / (v_hat.sqrt() + epsilon) + decayed)
    return losses, norms


@pytest.mark.parametrize(("objective", "n"), KINDS)
def test_the_same_steps_as_by_hand(objective, n, tmp_path, monkeypatch):
    """Large decay, epsilon and warm-up, so that each shows; some steps are clipped and some not."""
    batches, batch_of = [], Rows.batch

    def record(self, first, count):
        found = batch_of(self, first, count)
        if not self.in_order:
            batches.append(found[0])
        return found

    monkeypatch.setattr(Rows, "batch", record)
    monkeypatch.setattr(loop, "CLIP", 1.0)
    steps = 10
    changes = {"learning_rate": 0.02, "warmup": 0.4, "weight_decay": 0.5, "adam_epsilon": 1e-3}
    found, log, _ = run(objective, n, tmp_path, steps=steps, save_every=100, **changes)
    model = make_model(objective, n).train()
    losses, norms = by_hand(model, batches, 0.02, 4, 0.5, 1e-3)
    close(dict(model.named_parameters()), found)
    assert log[0]["loss"] == pytest.approx(sum(losses) / steps, abs=1e-5)
    assert log[0]["grad_norm"] == pytest.approx(norms[-1], abs=1e-4)
    assert len(batches) == steps


def test_gradients_are_clipped(tmp_path, monkeypatch):
    """A norm that is met is not clipped; Adam hides a factor that all steps share, not one of some."""
    plain = run("mlm", 1, tmp_path / "1", save_every=100)
    monkeypatch.setattr(loop, "CLIP", plain[1][0]["grad_norm"] / 4)
    clipped = run("mlm", 1, tmp_path / "2", save_every=100, adam_epsilon=1e-2)
    monkeypatch.setattr(loop, "CLIP", 1e9)
    unclipped = run("mlm", 1, tmp_path / "3", save_every=100, adam_epsilon=1e-2)
    assert not same(clipped, unclipped)


@pytest.mark.parametrize(("objective", "n"), KINDS)
def test_what_decays_is_what_trainer_lets_decay(objective, n):
    model = make_model(objective, n)
    names = {p: name for name, p in model.named_parameters()}
    groups = loop.adamw(list(model.parameters()), Training(steps=1, rows=1, learning_rate=1.0))
    decayed, not_decayed = ({names[p] for p in g["params"]} for g in groups.param_groups)
    assert decayed == set(Trainer.get_decay_parameter_names(None, model)) & set(names.values())
    assert decayed | not_decayed == set(names.values())


# --- Cut into parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "n"), KINDS)
def test_accumulation_changes_nothing(objective, n, tmp_path):
    """Rows of unequal numbers of labels among them; one group a pass in the last of the three."""
    cuts = [(8, 1), (4, 2), (1, 8)]
    runs = [
        run(objective, n, tmp_path / str(rows), rows=rows, accumulation=passes, save_every=100)
        for rows, passes in cuts
    ]
    assert moved(objective, n, runs[0][0]) > 0.01
    for weights, log, validation_log in runs[1:]:
        close(runs[0][0], weights)
        assert log[0]["loss"] == pytest.approx(runs[0][1][0]["loss"], abs=1e-5)
        for entry, expected in zip(validation_log, runs[0][2], strict=True):
            assert entry["loss"] == pytest.approx(expected["loss"], abs=1e-5)


def test_two_processes_train_as_one(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    small_training.main(tmp_path / "one")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, small_training.__file__, str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("mlm: step 6/6, loss") == 4  # the first process alone says so
    for objective, n, accumulation in CASES:
        one, two = (
            load_file(tmp_path / folder / f"{objective}-{n}-{accumulation}.safetensors")
            for folder in ("one", "two")
        )
        close(one, two)
        assert moved(objective, n, one) > 0.01


def test_rows_that_the_processes_cannot_share(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "join", lambda: Processes(0, 3, torch.device("cpu")))
    with pytest.raises(DataError, match="rows: 8 is no multiple of the 3 processes"):
        run("mlm", 1, tmp_path)


# --- The validation loss in the course of a training -------------------------------------------


@pytest.mark.parametrize(("objective", "n"), [("retrieval", 5), ("mlm", 1), ("rtd", 5)])
def test_looking_at_the_validation_loss_changes_no_weight(objective, n, tmp_path):
    how = {"steps": 20, "dropout": 0.1, "save_every": 100}
    with_it = run(objective, n, tmp_path / "1", **how)
    without = run(objective, n, tmp_path / "2", validation=False, **how)
    assert same((with_it[0], with_it[1]), (without[0], without[1]))
    assert without[2] == []
    # Every third step is the eighth part of 20, rounded up; the end comes on top.
    assert [entry["step"] for entry in with_it[2]] == [3, 6, 9, 12, 15, 18, 20]
    assert len(with_it[2]) <= loop.EVALUATIONS
    assert with_it[2][-1]["loss"] < with_it[2][0]["loss"]


@pytest.mark.parametrize(("objective", "n"), [("retrieval", 5), ("mlm", 1), ("rtd", 5)])
def test_every_evaluation_draws_the_same_masks_and_instances(objective, n, tmp_path):
    """And is made without dropout."""
    _, _, log = run(objective, n, tmp_path, dropout=0.5, learning_rate=1e-12)
    assert [entry["loss"] for entry in log] == pytest.approx(6 * [log[0]["loss"]], abs=1e-6)


# --- Killed and resumed -------------------------------------------------------------------------


def kill(patch, at):
    """Ends a training when it is about to take the step."""

    def dying(training, step, steps):
        if step == at:
            raise KeyboardInterrupt
        return learning_rate(training, step, steps)

    patch.setattr(loop, "learning_rate", dying)


@pytest.fixture
def killed_at(monkeypatch):
    return partial(kill, monkeypatch)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("objective", "n"), KINDS)
def test_killed_at_every_step_it_goes_on_to_the_same_end(
    objective, n, precision, tmp_path, killed_at
):
    how = {"dropout": 0.1, "precision": precision}
    whole = run(objective, n, tmp_path / "whole", **how)
    for step in range(STEPS):
        killed_at(step)
        with pytest.raises(KeyboardInterrupt):
            run(objective, n, tmp_path / "killed", **how)
        saved = [f"checkpoint-{s}" for s in (2, 4) if s <= step]
        assert sorted(p.name for p in tmp_path.glob("killed/*")) == saved
    killed_at(None)
    assert same(run(objective, n, tmp_path / "killed", **how), whole)


def test_dropout_and_precision_change_the_outcome(tmp_path):
    """So the test above is about them."""
    ways = [{}, {"dropout": 0.1}, {"precision": "bf16"}, {"dropout": 0.1, "precision": "bf16"}]
    runs = [run("mlm", 5, tmp_path / str(i), **way) for i, way in enumerate(ways)]
    assert not any(same(*pair) for pair in itertools.combinations(runs, 2))


def test_killed_again_and_again(tmp_path, killed_at):
    """Logs among the legs: every tenth step, and what was summed since the last entry."""
    whole = run("mlm", 5, tmp_path / "1", steps=25, save_every=3)
    assert [entry["step"] for entry in whole[1]] == [10, 20, 25]
    for step in (4, 11, 12, 19, 24):
        killed_at(step)
        with pytest.raises(KeyboardInterrupt):
            run("mlm", 5, tmp_path / "2", steps=25, save_every=3)
    killed_at(None)
    assert same(run("mlm", 5, tmp_path / "2", steps=25, save_every=3), whole)


def test_what_is_evaluated_at_its_end_is_not_lost_by_then(tmp_path, killed_at, monkeypatch):
    """The evaluation of a pre-training may be killed as well; its steps are not taken again."""
    whole = run("mlm", 5, tmp_path, save_every=100)
    monkeypatch.setattr(loop, "take_step", None)
    assert same(run("mlm", 5, tmp_path, save_every=100), whole)


def test_seconds_count_all_legs(tmp_path, killed_at, monkeypatch):
    clock = iter(range(0, 10**6, 1000))  # each look at it is 1000 seconds later
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    killed_at(5)
    with pytest.raises(KeyboardInterrupt):
        run("retrieval", 5, tmp_path)
    progress = json.loads((tmp_path / "checkpoint-4/progress.json").read_text())
    assert progress["seconds"] >= 1000
    again = json.loads((tmp_path / "checkpoint-2/progress.json").read_text())
    assert progress["seconds"] > again["seconds"]
    killed_at(None)
    data, collate = make_data("retrieval")
    training = Training(steps=6, rows=8, learning_rate=0.01, adam_epsilon=1e-4, save_every=2)
    how = {"steps": 6, "instances": 5, "seed": 3, "precision": "fp32", "scratch": tmp_path}
    *_, seconds = loop.train(make_model("retrieval", 5), data, collate, training, title="", **how)
    assert seconds > progress["seconds"]


def test_the_terminating_signal_loses_nothing(tmp_path, monkeypatch, capsys):
    whole = run("mlm", 1, tmp_path / "1", save_every=100)
    before = signal.getsignal(signal.SIGTERM)

    def signalled(training, step, steps):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return learning_rate(training, step, steps)

    monkeypatch.setattr(loop, "learning_rate", signalled)
    with pytest.raises(SystemExit) as exit:
        run("mlm", 1, tmp_path / "2", save_every=100)
    assert exit.value.code == 143
    assert [p.name for p in (tmp_path / "2").iterdir()] == ["checkpoint-3"]
    assert "stopped at step 3" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before
    assert same(run("mlm", 1, tmp_path / "2", save_every=100), whole)


# --- Damaged checkpoints ------------------------------------------------------------------------


def lacking_tensors(folder, keep):
    """Whole by its manifest, and not this model's."""
    state = load_file(folder / "state.safetensors")
    kept = {name: tensor for name, tensor in state.items() if keep(name)}
    save_file(kept, folder / "state.safetensors")
    (folder / "manifest.json").unlink()
    files.write_manifest(folder)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES = ("state.safetensors", "progress.json", "manifest.json")
DAMAGES = {
    **{f"no {name}": lambda f, name=name: (f / name).unlink() for name in FILES},
    **{f"empty {name}": lambda f, name=name: (f / name).write_bytes(b"") for name in FILES},
    **{f"cut {name}": lambda f, name=name: os.truncate(f / name, 40) for name in FILES},
    **{f"bit of {name}": lambda f, name=name: flip_a_bit(f / name) for name in FILES},
    "no tensors": lambda f: lacking_tensors(f, lambda name: False),
    "a weight less": lambda f: lacking_tensors(f, lambda name: "query.weight" not in name),
    "a moment less": lambda f: lacking_tensors(f, lambda name: "exp_avg_sq.bert.emb" not in name),
    "no moments": lambda f: lacking_tensors(f, lambda name: name.startswith("model.")),
    "a list": lambda f: (f / "manifest.json").write_text("[]"),
    "a number": lambda f: (f / "manifest.json").write_text('{"progress.json": 3}'),
}


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory):
    """(what a training comes to, the scratch folder of one that was killed in its last step)"""
    folder = tmp_path_factory.mktemp("cut-off")
    whole = run("mlm", 1, folder / "whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill(patch, 5)
        run("mlm", 1, folder / "killed")
    return whole, folder / "killed"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_the_one_before_used(damage, tmp_path, cut_off, killed_at, capsys):
    """Whatever is left, the training ends as an undisturbed one does."""
    whole, killed = cut_off
    shutil.copytree(killed, tmp_path / "2")
    newest, before = tmp_path / "2/checkpoint-4", tmp_path / "2/checkpoint-2"
    DAMAGES[damage](newest)
    killed_at(3)
    with pytest.raises(KeyboardInterrupt):  # at step 3: it goes on from 2, not 4
        run("mlm", 1, tmp_path / "2")
    (line,) = capsys.readouterr().err.splitlines()
    assert str(newest) in line
    DAMAGES[damage](before)
    killed_at(None)
    assert same(run("mlm", 1, tmp_path / "2"), whole)
    lines = capsys.readouterr().err.splitlines()
    assert [str(folder) in line for folder, line in zip((newest, before), lines, strict=True)]


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_manifest", full)
    with pytest.raises(DataError, match=r"checkpoint-2 cannot be written \(.*No space .*make room"):
        run("mlm", 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- A loss that is not finite ------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    with pytest.raises(DataError, match=r"mlm: the loss is not finite by step 1, .*rate 2e\+30"):
        run("mlm", 1, tmp_path, learning_rate=2e30)
    assert list(tmp_path.iterdir()) == []


def test_a_gradient_that_is_not_finite_in_the_last_step(tmp_path, monkeypatch):
    data, collate = make_data("mlm")
    model = make_model("mlm", 1)
    weight = model.bert.embeddings.word_embeddings.weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    training = Training(steps=1, rows=8, learning_rate=0.01)
    how = {"steps": 1, "instances": 1, "seed": 3, "precision": "fp32", "scratch": tmp_path}
    with pytest.raises(DataError, match="not finite by step 1"):
        loop.train(model, data, collate, training, title="mlm", **how)


def test_an_error_while_reading_ahead_comes_through(tmp_path):
    data, _ = make_data("mlm")
    broken = MaskTokens(Words(), 0.3)
    broken.special = broken.special[:10]  # ids beyond it are an IndexError
    training = Training(steps=3, rows=8, learning_rate=0.01)
    how = {"steps": 3, "instances": 1, "seed": 3, "precision": "fp32", "scratch": tmp_path}
    with pytest.raises(IndexError):
        loop.train(make_model("mlm", 1), data, broken, training, title="mlm", **how)
