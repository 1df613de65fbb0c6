"""What the benchmarks report: ratios of what was timed, the steps they time, a run's own figures."""

import os
from itertools import count

import pytest
import torch
from typer.testing import CliRunner

from muxplm.benchmarks import dag, inference, training
from muxplm.cli import app
from muxplm.evaluation import throughput

TINY = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.fixture
def a_second_each(monkeypatch):
    """Every timed stretch takes one second."""
    ticks = count()
    monkeypatch.setattr(throughput, "perf_counter", lambda: float(next(ticks)))


def test_inference_of_equal_times_is_a_ratio_of_one(a_second_each):
    forward = inference.benchmark_forward("fp32", 2, 10, n_values=(1, 5), length=4, base=TINY)
    for n, model in zip((1, 5), forward["models"].values(), strict=True):
        assert model["speedup"] == {"median": 1.0, "low": 1.0, "high": 1.0, "rounds": [1.0, 1.0]}
        assert model["best"]["speedup"]["median"] == 1.0
        assert model["target"] == {1: None, 5: 4.7}[n]
    printed = inference.report({"forward": {"fp32": forward}})
    row = next(line for line in printed.splitlines() if "≥ 4.7" in line)
    assert [cell.strip() for cell in row.split("|")][1:5] == ["fp32", "5", "1.00", "1.00–1.00"]


@pytest.mark.parametrize("objective", ["mlm", "classification"])
@pytest.mark.parametrize("n", [1, 2])
def test_our_step_takes_the_plain_ones(objective, n, monkeypatch):
    """After three steps of each from the same weights: else their times could not be compared."""
    models, made = [], training.fresh
    monkeypatch.setattr(training, "fresh", lambda *a: models.append(made(*a)) or models[-1])
    batch = training.make_batch(objective, TINY["vocab_size"], 4 * n, 8, "cpu")
    before = made(objective, n, TINY).state_dict()
    # Adam divides by the root of a mean square: a small epsilon would turn rounding into steps. The
    # plain step's decay does not spare biases and norms.
    changes = {"adam_epsilon": 1e-2, "learning_rate": 1e-2, "weight_decay": 0.0}
    for name, value in changes.items():
        monkeypatch.setattr(training.RECIPE, name, value)
    named = (objective, n, TINY, batch)
    steps = training.own_step(*named, "fp32"), training.plain_step(*named)
    for step in steps:
        for _ in range(3):
            step()
    own, plain = (model.state_dict() for model in models)
    moved = {name for name in own if not torch.equal(own[name], before[name])}
    assert len(moved) > 10
    change = max((own[name] - before[name]).abs().max() for name in moved)
    assert change > 1e-4
    for name in moved:
        torch.testing.assert_close(own[name], plain[name], rtol=0, atol=1e-5, msg=name)


def test_training_reports_each_step_against_the_plain_one(a_second_each, monkeypatch):
    monkeypatch.setitem(training.SHAPES, "tiny", (TINY, 2, 8, ("mlm",)))
    entries = training.time_steps("tiny", "mlm", 2, ["fp32"], rounds=3)
    assert [entry["step"] for entry in entries] == ["plain", "fp32"]
    assert all(entry["of_plain"]["median"] == 1 for entry in entries)
    plain, own = (entry["operations_per_second"] for entry in entries)
    assert 0 < own < plain  # a second each, and ours scores fewer positions
    memory = {"steps": [{"n": 10, "instances": 300, "mib": 3210, "ratio": 1.254}]}
    result = {"steps": entries, "products": {"fp32": 2 * own}, "memory": {"fp32": memory}}
    printed = training.report(result | {"data": training.rate_of_data(4, 8, 2)})
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    assert ["tiny", "2 x 8", "mlm", "2", "fp32", "1000.0", "1.00", "1.00–1.00", "50%"] in cells
    assert ["fp32", "10", "300", "3210", "1.25"] in cells
    assert printed.endswith("0 million tokens a second.")  # 32 of them in a second


def test_memory_of_a_step_grows_with_its_instances():
    small, large = (training.peak_of_step(10, rows, "fp32", 16, TINY) for rows in (20, 20000))
    assert small >= 0
    assert large > small + 100  # MiB


# --- A run's own figures -----------------------------------------------------------------------


def fabricate(folder, jobs):
    """jobs: by name of the file, seconds, core-seconds and the second at which the job ended."""
    for name, (seconds, core, end) in jobs.items():
        path = folder / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tcpu_time\n{seconds}\t0:00:00\t{core}\n")
        os.utime(path, (end, end))


RUN = {
    "pretrain/a": (40, 30, 1040),  # from 1000
    "pretrain/b": (50, 50, 1060),
    "finetune/a/all": (20, 0, 1080),  # too short for psutil: its seconds
}


def test_a_runs_cost_by_stage(tmp_path):
    fabricate(tmp_path, RUN)
    found = dag.summary(str(tmp_path), cores=2)
    assert found["stages"] == [
        {"stage": "pretrain", "jobs": 2, "core_s": 80.0, "longest_s": 50.0},
        {"stage": "finetune", "jobs": 1, "core_s": 20.0, "longest_s": 20.0},
    ]
    assert (found["core_s"], found["wall_s"], found["busy"]) == (100, 80, 100 / 160)


def test_two_runs_side_by_side(tmp_path):
    fabricate(tmp_path / "now", RUN)
    fabricate(tmp_path / "then", {"pretrain/a": (100, 100, 2000), "prime/a": (100, 100, 2000)})
    output = tmp_path / "dag.json"
    command = ["benchmark", "dag", str(tmp_path / "now"), "--than", str(tmp_path / "then")]
    done = CliRunner().invoke(app, [*command, "--output", str(output), "--cores", "2"])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    assert ["pretrain", "2", "80", "50", "100", "0.80"] in cells
    assert ["finetune", "1", "20", "20", "–", "–"] in cells
    assert ["all", "3", "100", "", "200", "0.50"] in cells
    assert "62% of 2 cores were busy" in done.stdout
    assert output.is_file()


def test_a_folder_without_a_run_is_named(tmp_path):
    done = CliRunner().invoke(app, ["benchmark", "dag", str(tmp_path)])
    assert done.exit_code != 0
    assert "has no job's figures" in str(done.exception)
