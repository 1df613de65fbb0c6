"""What the benchmarks report: ratios of what was timed, the steps they time, a run's own figures."""

import os
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure
from snakemake import benchmark
from typer.testing import CliRunner

from muxplm.benchmarks import dag, inference, inference_report, overhead, shapes, textbook, training
from muxplm.cli import app
from muxplm.evaluation import throughput
from muxplm.files import write_json
from muxplm.mistakes import ConfigError
from muxplm.models.build import new_model
from muxplm.precision import autocast

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


def measure(task, **changes):
    settings = {"families": ("mux-bert",), "n_values": (2,), "engines": ("torch",)}
    settings |= {"precisions": ("fp32",), "rounds": 2, "batch": 6, "length": 4}
    return inference.measure(task, "tiny", inference.Plan(**settings | changes), TINY)


def test_inference_of_equal_times_is_a_ratio_of_one(a_second_each):
    part = measure("sequence", families=("tmux", "contextual"))
    assert [(run["family"], run["n"]) for run in part["runs"]] == [
        ("bert", 1),
        ("tmux", 2),
        ("contextual", 2),
    ]
    for run in part["runs"]:
        at_once, at_best = run["at_once"], run["at_best"]
        assert at_once["instances_per_second"] == at_best["instances_per_second"] == 6
        for ratio in (at_once["over_bert"], at_best["over_bert"], at_best["over_fastest"]):
            assert ratio == {"median": 1.0, "low": 1.0, "high": 1.0, "rounds": [1.0, 1.0]}
    printed = inference_report.report({"parts": [part], "tricks": []})
    row = next(line for line in printed.splitlines() if "T-MUX" in line)
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[1:6] == ["T-MUX", "2", "torch", "fp32", "1.00 (1.00–1.00)"]
    assert cells[6] == f"{1 / part['runs'][1]['bound']:.2f}"
    assert "Fastest at N = 1: torch in fp32" in printed


def test_a_ratio_is_of_the_same_engine_and_precision_but_for_the_fastest():
    bert, int8, own = (
        inference.Run(*run)
        for run in (("bert", 1, "a", "fp32"), ("bert", 1, "b", "int8"), ("tmux", 2, "a", "fp32"))
    )
    seconds = {bert: [8.0, 4.0], int8: [4.0, 2.0], own: [2.0, 2.0]}
    found = inference.summary(seconds, own, 10, bert=bert, fastest=int8)
    assert found["instances_per_second"] == 5
    assert found["over_bert"]["rounds"] == [4, 2] and found["over_bert"]["median"] == 3
    assert found["over_fastest"]["rounds"] == [2, 1]


def test_pruned_models_have_a_structure_as_cofi_leaves_it():
    """Of the paper's base size, counted in the model itself: 60 % of the layers' weights are gone."""
    config = shapes.base_config(1, shapes.BASE, "pruned")
    with torch.device("meta"):
        small, whole = (
            new_model("classification", c) for c in (config, shapes.base_config(1, shapes.BASE))
        )
    weights = [
        sum(p.numel() for p in model.base_model.encoder.parameters() if p.ndim == 2)
        for model in (small, whole)
    ]
    assert 1 - weights[0] / weights[1] == pytest.approx(0.6, abs=1e-3)
    assert set(config.heads) <= set(range(5, 10)) and len(set(config.heads)) > 2
    assert max(config.intermediates) > 2 * min(config.intermediates) > 0


def test_pruned_models_are_timed_alone_and_multiplexed():
    part = measure("sequence", families=("pruned",))
    found = {(run["family"], run["n"]): run["bound"] for run in part["runs"]}
    assert list(found) == [("bert", 1), ("pruned", 1), ("pruned", 2)]
    assert 1 < found["pruned", 1] < found["pruned", 2]
    assert part["fastest"]["family"] == "bert"


@pytest.mark.parametrize("task", ["sequence", "token"])
def test_operations_are_those_of_the_formulas(task):
    """Twice the multiplications of each product of matrices, for one instance of 8 tokens."""
    h, i, length, n = 16, 32, 8, 2
    layer = 2 * (4 * length * h * h + 2 * length * h * i + 2 * length * length * h)
    head = 2 * h * 2 * (1 if task == "sequence" else length)
    pooler = 2 * h * h if task == "sequence" else 0
    bert = 2 * layer + pooler + head
    assert inference.count(task, TINY, "bert", 1, length) == bert
    whole, read = layer, 1 if task == "sequence" else length
    # Of the last layer keys and values everywhere, the rest at the positions that are read.
    last = 2 * (2 * length * h * h + read * (2 * h * h + 2 * h * i + 2 * length * h))
    # The keys' half of the MLP's first layer once an instance, the states' once a position.
    demultiplexer = 2 * h * h * (n + read + n * read)
    own = (whole + last + demultiplexer) / n + head
    assert inference.count(task, TINY, "mux-bert", n, length) == own


def test_the_best_micro_batch_takes_least_time_for_a_row(monkeypatch):
    """Rows of the encoder: 9 instances at N = 2 are five of them, the last one completed."""
    seconds = {2: [4.0, 5.0], 4: [4.4, 9.0], 5: [10.0, 9.0]}
    monkeypatch.setattr(inference, "time_interleaved", lambda passes, rounds, repeats: seconds)
    ids = torch.zeros(9, 3)
    assert inference.best_micro_batch(lambda ids: None, ids, 2) == 4
    seconds[4] = [9.0, 9.0]
    assert inference.best_micro_batch(lambda ids: None, ids, 2) == 5
    taken = []
    inference.in_chunks(lambda part: taken.append(len(part)), ids, 4)
    assert taken == [4, 4, 1]


def test_every_engine_and_precision_answers_alike():
    for library in ("onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="needs the extra onnx")
    torch.manual_seed(0)
    config = inference.base_config(2, TINY | {"initializer_range": 0.2})
    model = new_model("classification", config).eval()
    ids = torch.randint(50, (5, 8))
    with torch.inference_mode():
        expected = model(ids).logits
        for make, precisions in (
            (inference.in_torch, ["fp32", "bf16", "int8"]),
            (inference.in_onnxruntime, ["fp32", "int8"]),
        ):
            for precision, answer in make(model, precisions, None):
                error = (answer(ids).float() - expected).abs().max()
                assert error < (1e-5 if precision == "fp32" else 0.2 * expected.std())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ["sequence", "token"])
def test_each_trick_computes_what_the_formulas_say(task, precision):
    torch.manual_seed(0)
    config = inference.base_config(3, TINY | {"initializer_range": 0.2})
    model = new_model(textbook.KINDS[task], config).eval()
    ids = torch.randint(50, (6, 8))
    with torch.inference_mode(), autocast(precision, "cpu"):
        found = {name: run(ids) for name, run in textbook.versions(model, precision).items()}
    tricks = {"sequence": 4, "token": 2}[task] + (precision == "bf16")
    assert len(found) == tricks
    names = list(found)
    for name in names[1:]:
        tolerance = 1e-5 if precision == "fp32" else 0.05
        torch.testing.assert_close(found[name], found[names[0]], rtol=tolerance, atol=tolerance)
    if precision == "bf16":
        assert torch.equal(found[names[-1]], found[names[-2]])  # casting earlier rounds alike
    with torch.inference_mode():
        torch.testing.assert_close(textbook.Textbook(model)(ids), model(ids).logits)


def test_tricks_are_timed_against_the_one_before(a_second_each):
    found = textbook.time_versions("token", "fp32", 2, 2, 5, 4, TINY, torch.device("cpu"))
    assert [version["gain"]["median"] for version in found] == [1, 1]
    assert found[0]["version"] == "the formulas"


def test_the_picture_has_a_line_for_each_precision_and_engine(tmp_path):
    rate = {(1, "fp32"): 10, (2, "fp32"): 19, (10, "fp32"): 80, (1, "int8"): 30, (2, "int8"): 50}
    runs = [
        {"family": "bert" if n == 1 else "mux-bert", "n": n, "engine": "torch"}
        | {"precision": precision, "at_best": {"instances_per_second": speed}}
        for (n, precision), speed in sorted(rate.items(), reverse=True)
    ]
    part = {"size": "base", "task": "sequence", "runs": runs}
    axis = Figure().subplots()
    inference_report._draw(axis, part)
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines]
    assert sorted(lines) == [([1, 2], [30, 50]), ([1, 2, 10], [10, 19, 80])]
    inference_report.write_picture({"parts": [part]}, tmp_path / "inference.png")
    assert (tmp_path / "inference.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_no_part_of_the_benchmark_is_named():
    for option, value in (("--models", "mux-brt"), ("--n", "0"), ("--precisions", "fp8")):
        done = CliRunner().invoke(app, ["benchmark", "inference", option, value])
        assert isinstance(done.exception, ConfigError) and option in str(done.exception)
    done = CliRunner().invoke(app, ["benchmark", "inference", "--batch", "5", "--n", "2,10"])
    assert "does not fill a row of N = 10: take 10 or more" in str(done.exception)


def test_overhead_is_what_is_not_spent_in_the_model(monkeypatch):
    """Each look at the clock takes a second: two a pass, one of them inside, and two around all."""
    ticks = count()
    monkeypatch.setattr(overhead, "process_time", lambda: float(next(ticks)))
    answer = SimpleNamespace(model=SimpleNamespace(forward=lambda x: x + 1))
    forward, found = answer.model.forward, []
    seconds = overhead.timed(answer, lambda: found.extend(answer.model.forward(x) for x in (1, 2)))
    assert (found, seconds) == ([2, 3], (3.0, 2.0))
    assert answer.model.forward is forward


def test_overhead_of_each_way_to_answer():
    found = overhead.measure(30, (2,), 1)
    assert [(run["task"][:5], run["way"]) for run in found] == [
        (task, way)
        for task in ("text-", "token")
        for way in ("the tokenizer alone", "pipeline", "predict, .csv", "predict, .jsonl")
    ]
    assert all(run["outside"] > 0 for run in found)
    assert [run["inside"] > 0 for run in found] == 2 * [False, True, True, True]
    assert overhead.report({"runs": found}).count("predict, .csv") == 2


def test_a_profile_says_where_a_steps_time_is_spent():
    """A large product beside a small sum; each operation counts once, not again for what calls it."""
    square = torch.ones(700, 700)
    found = training.shares(lambda: (torch.matmul(square, square), square.sum()))
    assert next(iter(found)) == "aten::mm" and found["aten::mm"] > 0.5
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert sum(found.values()) <= 1 + 1e-9
    entry = training.time_steps("2x128", "mlm", 1, [], 1, profiled=True)[0]
    result = {"steps": [entry], "products": {"fp32": 1e9}, "memory": {}, "data": 1e6}
    assert "aten::" in training.report(result)
    del entry["profile"]
    assert "aten::" not in training.report(result)


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
    "pretrain/a": (40, 11.25, 1040),  # from 1000; 15 s were sampled, so 75 % of a core
    "pretrain/b": (50, 45, 1060),  # 45 s were sampled, so a core
    "finetune/a/all": (20, 0, 1080),  # too short for psutil: its seconds
}


def test_a_runs_cost_by_stage(tmp_path, monkeypatch):
    fabricate(tmp_path, RUN)
    found = dag.summary(str(tmp_path), cores=2)
    monkeypatch.chdir(tmp_path)
    assert dag.summary(".", cores=2) == found
    assert found["stages"] == [
        {"stage": "pretrain", "jobs": 2, "core_s": 80.0, "longest_s": 50.0},
        {"stage": "finetune", "jobs": 1, "core_s": 20.0, "longest_s": 20.0},
    ]
    assert (found["core_s"], found["wall_s"], found["busy"]) == (100, 80, 100 / 160)


def test_what_is_sampled_of_a_job_is_what_snakemake_looks_at(monkeypatch):
    waiting, looks, now = [], [], 0.0

    class Timer:  # in the place of Snakemake's, which waits
        def __init__(self, interval, function):
            self.interval, self.function = interval, function

        def start(self):
            waiting.append(self)

    class Watch(benchmark.ScheduledPeriodicTimer):
        def work(self):
            looks.append(now)

    monkeypatch.setattr(benchmark, "DaemonTimer", Timer)
    Watch(benchmark.BENCHMARK_INTERVAL).start()
    while now < 300:
        timer = waiting.pop()
        now += timer.interval
        timer.function()
    assert len(looks) > 35
    for seconds in (0.4, 7.2, 14.9, 15.0, 26.0, 44.9, 45.0, 122.3, 299.0):
        last = max(look for look in looks if look <= seconds)
        often = seconds < 15
        assert last <= dag.sampled(seconds) <= last + benchmark.BENCHMARK_INTERVAL_SHORT * often


def test_what_a_stopped_training_had_done_before_counts(tmp_path):
    fabricate(tmp_path, RUN)  # finetune/a: 20 s, of what its last start trained
    for seed, seconds in ((1, 60), (2, 40)):
        run = {"stage": "finetune", "model": "a", "seconds": seconds}
        write_json(tmp_path / "finetune" / "a" / "sst2" / f"seed{seed}" / "run.json", run)
    write_json(  # less than its job took, which loads and saves too
        tmp_path / "pretrain" / "a" / "run.json",
        {"stage": "pretrain", "model": "a", "seconds": 30},
    )
    found = dag.summary(str(tmp_path), cores=2)
    assert found["stages"] == [
        {"stage": "pretrain", "jobs": 2, "core_s": 80.0, "longest_s": 50.0},
        {"stage": "finetune", "jobs": 1, "core_s": 100.0, "longest_s": 100.0},
    ]
    assert found["wall_s"] == 80  # of the clock, as before


def test_two_runs_side_by_side(tmp_path):
    fabricate(tmp_path / "now", RUN)
    whole = (100, 75, 2000)  # a core, in the 75 s that are sampled
    fabricate(tmp_path / "then", {"pretrain/a": whole, "prime/a": whole})
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
