"""The throughput measurement under a clock that only the models advance. Nothing here is timed."""

import json
from statistics import median

import pytest
import torch
import yaml
from transformers import BertTokenizer

from muxplm import config, experiments, precision, recipes
from muxplm.benchmarks.shapes import base_config
from muxplm.evaluation import throughput
from muxplm.files import DataError
from muxplm.models.build import new_model
from muxplm.precision import autocast, cast_weights, use_bf16

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"[unused{i}]" for i in range(16)), "a"]
TINY = {"layers": 1, "hidden": 16, "heads": 2, "intermediate": 32}
BASE = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
PLAN = {"batch": 20, "length": 8, "batches": 3, "trials": 4, "micro_batches": [2, 5, 20]}


class Clock:
    """Seconds since the start; `advance` is what models do instead of taking time."""

    now = 0.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "perf_counter", clock)
    return clock


def settings_for(tmp_path, **changes):
    raw = yaml.safe_load(config.DEFAULT.read_text())
    tiny = {"results": str(tmp_path), "max_length": 8, "shapes": {"base": TINY}}
    return config.validate(config.merge(raw, {**tiny, "throughput": PLAN, **changes}))


@pytest.fixture
def measure(monkeypatch, clock):
    """measure(settings) with real tiny models that take `cost(name, encoder rows)` fake seconds.

    Returns the result and the calls made: (model, instances) in order.
    """

    def measure(settings, cost):
        calls = []
        names = iter(v.name for v in experiments.TABLES["table1"].variants(settings.axes))

        def built(objective, model_config):
            model, name = new_model(objective, model_config), next(names)
            n = getattr(model_config, "num_instances", 1)

            def advance(module, args, kwargs):
                instances = len(kwargs["input_ids"])
                calls.append((name, instances))
                clock.advance(cost(name, -(-instances // n)))

            model.register_forward_pre_hook(advance, with_kwargs=True)
            return model

        monkeypatch.setattr(throughput, "new_model", built)
        return throughput.measure_throughput(settings, "base"), calls

    return measure


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """Seven rows of every task, so that a batch of 20 has to start again; tagging has words."""
    read = []

    def read_task(name, part, settings):
        read.append(name)
        texts = {"question1": ["a"] * 7, "question2": ["a a"] * 7, "sentence": ["a"] * 7}
        rows = {"tokens": [["a", "a"]] * 7} if name in ("ner", "pos") else texts
        return rows

    tokenizer = BertTokenizer(
        vocab={word: i for i, word in enumerate(WORDS)},
        model_input_names=["input_ids", "attention_mask"],
    )
    monkeypatch.setattr(throughput, "read_task", read_task)
    monkeypatch.setattr(throughput, "read_tokenizer", lambda settings: tokenizer)
    return read


def per_row(name, rows):
    """A fake cost in powers of two, so that sums of it are exact: a call costs more than a row."""
    return {"bert": 1.0, "electra": 2.0}.get(name.split("-")[0], 0.5) * (4 + rows)


# --- One round after another ---------------------------------------------------------------------


def test_rounds_are_interleaved_and_each_pass_is_timed_alone(clock):
    made = []

    def passing(name, seconds):
        return lambda: (made.append(name), clock.advance(seconds))

    costs = {"a": 1.0, "b": 2.0, "c": 4.0}
    passes = {name: passing(name, cost) for name, cost in costs.items()}
    seconds = throughput.time_interleaved(passes, rounds=8, repeats=2)
    assert seconds == {name: [2 * cost] * 8 for name, cost in costs.items()}
    assert made[:3] == ["a", "b", "c"]  # to warm up
    rounds = [made[start : start + 6] for start in range(3, len(made), 6)]
    assert len(rounds) == 8
    for order in rounds:
        assert order[::2] == order[1::2]  # both repeats of a pass together
        assert sorted(order[::2]) == ["a", "b", "c"]  # and every pass once a round
    assert len({tuple(order) for order in rounds}) > 2  # the order changes
    again, made[:] = made[:], []
    throughput.time_interleaved(passes, rounds=8, repeats=2)
    assert made == again  # and is the same at each run


def test_speed_up_is_the_median_of_ratios_within_rounds():
    seconds = {"slow": [8.0, 1.0, 6.0], "fast": [2.0, 1.0, 1.0]}
    # The ratio of the medians would be 6.
    expected = {"median": 4.0, "low": 1.0, "high": 6.0, "rounds": [4.0, 1.0, 6.0]}
    assert throughput.speedup(seconds, "fast", "slow") == expected
    assert throughput.speedup(seconds, "slow", "slow")["rounds"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("n", "fastest", "expected", "chunks"),
    [(1, 5, 5, {2, 5, 20}), (10, 2, 2, {20}), (2, 5, 5, {4, 10, 20}), (5, 4, 4, {10, 20})],
)
def test_micro_batches_are_rows_of_the_encoder(clock, n, fastest, expected, chunks):
    seen = set()

    def model(input_ids):
        seen.add(len(input_ids))
        clock.advance(1.0 if len(input_ids) == fastest * n else 100.0)

    batch = {"input_ids": torch.zeros(20, 3)}
    assert throughput.best_micro_batch(model, batch, n, [2, 5, 20]) == expected
    assert seen == chunks


def test_a_batch_is_run_in_chunks_and_every_row_once():
    batch = {"input_ids": torch.arange(7), "attention_mask": torch.ones(7)}
    seen = []
    throughput.run_batch(lambda input_ids, attention_mask: seen.append(input_ids), batch, 3)
    assert [len(x) for x in seen] == [3, 3, 1]
    assert torch.cat(seen).tolist() == list(range(7))


# --- The whole measurement -----------------------------------------------------------------------


def test_measurement_against_plain_arithmetic(tmp_path, measure):
    settings = settings_for(tmp_path, precision="fp32")
    result, calls = measure(settings, per_row)
    variants = experiments.TABLES["table1"].variants(settings.axes)
    assert list(result["models"]) == [v.name for v in variants]
    assert result["reference"] == "bert-base"
    for variant in variants:
        measured = result["models"][variant.name]
        seconds = per_row(variant.name, 20 // variant.n)
        # A call costs as much as four rows, so the whole batch at once is the best.
        assert measured["instances_per_second"] == [20 / seconds] * 4
        ratio = 24.0 / seconds
        expected = {"median": ratio, "low": ratio, "high": ratio, "rounds": [ratio] * 4}
        assert measured["speedup"] == expected
        best = {
            "micro_batch": 20 // variant.n,
            "instances_per_second": 20 / seconds,
            "speedup": ratio,
        }
        assert measured["best"] == best
    # 1 warm-up and 4 trials of 3 batches: every model has done the same before any does more.
    first = [name for name, instances in calls[: len(variants) * 13]]
    assert {first.count(v.name) for v in variants} == {13}
    assert all(instances == 20 for _, instances in calls[: len(variants) * 13])


def test_rounds_that_differ_give_a_spread(tmp_path, measure, clock):
    """A machine that slows down slows all models of a round, and the ratios with no one else's."""
    settings = settings_for(tmp_path, families=["bert", "mux-bert"], instances=[1, 2])
    made = {"bert-base": 0, "mux-bert-base-n2": 0}

    def cost(name, rows):
        made[name] += 1
        return made[name] if name == "bert-base" else 2.0

    result, _ = measure(settings, cost)
    # Call 1 is the warm-up; a trial of three calls takes the sum of their numbers.
    seconds = [2 + 3 + 4, 5 + 6 + 7, 8 + 9 + 10, 11 + 12 + 13]
    plain, mux = result["models"].values()
    assert plain["instances_per_second"] == [60 / s for s in seconds]
    assert plain["speedup"]["rounds"] == [1.0] * 4
    assert plain["best"]["speedup"] == 1.0
    ratios = [s / 6 for s in seconds]
    expected = {"median": median(ratios), "low": ratios[0], "high": ratios[-1], "rounds": ratios}
    assert mux["speedup"] == expected


def test_each_model_is_compared_at_its_own_best(tmp_path, measure):
    """Plain BERT gains by small batches, the multiplexed model does not: the ratio falls."""
    settings = settings_for(tmp_path, families=["bert", "mux-bert"], instances=[1, 5])
    result, _ = measure(settings, lambda name, rows: float(rows * rows if rows > 5 else rows))
    plain, mux = result["models"].values()
    assert plain["speedup"]["median"] == 1.0
    assert mux["speedup"]["median"] == 400 / 4
    assert plain["best"]["micro_batch"] in (2, 5)
    assert plain["best"]["instances_per_second"] == 1.0
    assert mux["best"]["speedup"] == 20 / 4


def test_written_file_is_what_the_table_reads(tmp_path, measure, monkeypatch):
    settings = settings_for(tmp_path, families=["bert", "mux-bert"], instances=[1, 2])
    result, _ = measure(settings, per_row)
    monkeypatch.setattr(throughput, "measure_throughput", lambda settings, timed: result)
    throughput.write_throughput(settings, "base")
    with open(settings.paths.throughput("base")) as file:
        written = json.load(file)
    recipe = recipes.digest(recipes.throughput(settings, "base"))
    assert written == {"recipe": recipe} | result
    assert list(written)[1:] == [
        *("device", "threads", "precision", "batch", "length", "batches", "trials"),
        *("reference", "models"),
    ]
    assert written["threads"] == torch.get_num_threads()
    assert written["device"]
    for model in written["models"].values():
        assert list(model) == ["instances_per_second", "speedup", "best"]
        assert list(model["speedup"]) == ["median", "low", "high", "rounds"]
        assert list(model["best"]) == ["micro_batch", "instances_per_second", "speedup"]


@pytest.mark.parametrize(
    ("families", "reference"),
    [(["electra", "tmux"], "electra-base"), (["mux-bert"], None)],
)
def test_configs_without_bert(tmp_path, measure, families, reference):
    settings = settings_for(tmp_path, families=families, instances=[1, 2])
    result, _ = measure(settings, per_row)
    assert result["reference"] == reference
    for name, model in result["models"].items():
        if reference is None:
            assert model["speedup"] == {"median": None, "low": None, "high": None, "rounds": []}
            assert model["best"]["speedup"] is None
        else:
            assert (model["speedup"]["median"] == 1.0) == (name == reference)


# --- The batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "chosen"), [(["sst2", "qqp"], "qqp"), (["sst2", "ner"], "sst2"), (["ner"], "ner")]
)
def test_batch_holds_the_first_rows_padded_to_the_length(tmp_path, data, tasks, chosen):
    settings = settings_for(tmp_path, tasks=tasks)
    batch = throughput.read_batch(settings, throughput.read_tokenizer(settings))
    assert data == [chosen]
    assert set(batch) == {"input_ids", "attention_mask"}
    assert all(x.shape == (20, 8) for x in batch.values())
    tokens = {"qqp": 6, "sst2": 3, "ner": 4}[chosen]  # [CLS] a [SEP] a a [SEP], ...
    assert (batch["attention_mask"].sum(dim=1) == tokens).all()


def test_a_length_that_the_models_lack_positions_for_is_an_error(tmp_path):
    settings = settings_for(tmp_path, throughput={**PLAN, "length": 9})
    with pytest.raises(DataError, match=r"throughput\.length is 9 .* max_length 8"):
        throughput.measure_throughput(settings, "base")


# --- Precision ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amx", "avx512", "cpu", "faster"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "AuthenticAMD", True),
        (False, True, "GenuineIntel", False),  # multiplies at half of float32's rate
        (False, False, "AuthenticAMD", False),
    ],
)
def test_auto_is_bf16_where_a_machine_is_faster_in_it(monkeypatch, amx, avx512, cpu, faster):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(precision, "_cpuinfo", lambda: f"vendor_id\t: {cpu}\n")
    assert use_bf16("auto") == faster


def test_weights_cast_beforehand_give_autocasts_numbers():
    ids = torch.arange(20).view(4, 5)
    assert use_bf16("bf16") and not use_bf16("fp32")
    for n in (1, 2):
        model = new_model("classification", base_config(n, BASE)).eval()
        with torch.inference_mode(), autocast("bf16", "cpu"):
            before = model(ids).logits
            after = cast_weights(model, "bf16")(ids).logits
        assert before.dtype == torch.bfloat16
        assert torch.equal(before, after)
