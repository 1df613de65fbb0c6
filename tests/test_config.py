"""Settings: each mistake is one line that names the key; recipes change only when they must."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from muxplm import config as configuration
from muxplm.config import ConfigError, merge, validate

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "config").glob("*.yaml"))
STAGES = ["prime", "pretrain", "finetune"]
# Only to be read by people and schedulers.
NO_INFLUENCE = [
    {"results": "elsewhere"},
    {"scratch": "elsewhere"},
    {"data_folder": "elsewhere"},
    {"resources": {"pretrain": {"threads": 7, "gpu": 3}}},
    {"plan": {"flops": 1.0}},
    {"composition_seeds": [7, 8, 9]},
    {"instances": [1, 2]},
    {"throughput": {"trials": 1}},
]


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the default config is found from there


def merged(*changes: dict) -> dict:
    """The default config with `changes` laid over it, as Snakemake merges them."""
    raw = yaml.safe_load((ROOT / configuration.DEFAULT).read_text())
    for change in changes:
        raw = merge(raw, change)
    return raw


def mistakes(*changes: dict) -> list[str]:
    with pytest.raises(ConfigError) as error:
        validate(merged(*changes))
    return str(error.value).splitlines()


def preset(path: Path) -> dict:
    # local.yaml wants a folder, which its user names.
    return merged(yaml.safe_load(path.read_text()), {"data_folder": "somewhere"})


# --- Mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # an unknown key at any depth
        ({"familes": []}, "config: familes: unknown key; did you mean 'families'?"),
        ({"prime": {"step": 1}}, "config: prime.step: unknown key; did you mean 'steps'?"),
        (
            {"data": {"synthetic": {"document": 1}}},
            "config: data.synthetic.document: unknown key; did you mean 'documents'?",
        ),
        (
            {"shapes": {"base": {"layer": 1}}},
            "config: shapes.base.layer: unknown key; did you mean 'layers'?",
        ),
        (
            {"resources": {"score": {"memory_mb": 1}}},
            "config: resources.score.memory_mb: unknown key; did you mean 'mem_mb'?",
        ),
        # an unknown name
        ({"tasks": ["sst3"]}, "config: tasks.0: unknown name 'sst3'; did you mean 'sst2'?"),
        (
            {"families": ["mux-brt"]},
            "config: families.0: unknown name 'mux-brt'; did you mean 'mux-bert'?",
        ),
        (
            {"sizes": ["huge"]},
            "config: sizes.0: unknown name 'huge'; known: small, base, large",
        ),
        ({"bundle": "tasks"}, "config: bundle: unknown name 'tasks'; did you mean 'task'?"),
        # a wrong type or value
        ({"tasks": "sst2"}, "config: tasks: input should be a valid list, got 'sst2'"),
        ({"prime": 3}, "config: prime: input should be a valid dictionary or instance of "),
        ({"instances": [0]}, "config: instances.0: input should be greater than or equal to 1, "),
        ({"instances": []}, "config: instances: list should have at least 1 item"),
        ({"instances": [2.5]}, "config: instances.0: input should be a valid integer, got 2.5"),
        ({"prime": {"rows": True}}, "config: prime.rows: input should be a valid integer, got T"),
        ({"model": {"dropout": 2.0}}, "config: model.dropout: input should be less than or equal"),
        (
            yaml.safe_load("finetune: {learning_rate: 5e-5}"),
            "config: finetune.learning_rate: '5e-5' is text, not a number (write 5.0e-5, not 5e-5,",
        ),
        ({"prime": {"steps": "10"}}, "config: prime.steps: '10' is text, not a number"),
        # what does not fit together
        (
            {"shapes": {"base": {"heads": 3}}},
            "config: shapes.base: hidden 128 is not a multiple of heads 3",
        ),
        (
            {"data": {"source": "local"}},
            "config: data_folder is missing: name the folder, --config data_folder=DIR",
        ),
        # overrides
        (
            {"overrides": {"mux-bert-base-n3": {}}},
            "config: overrides.mux-bert-base-n3: no such variant in this config; did you mean "
            "'mux-bert-base-n",
        ),
        (
            {"overrides": {"bert-base": {"finetuning": {}}}},
            "config: overrides.bert-base.finetuning: unknown name 'finetuning'; did you mean "
            "'finetune'?",
        ),
        (
            {"overrides": {"bert-base": {"finetune": {"row": 1}}}},
            "config: overrides.bert-base.finetune.row: unknown key; did you mean 'rows'?",
        ),
        (
            {"overrides": {"bert-base": {"finetune": {"rows": 0}}}},
            "config: overrides.bert-base.finetune.rows: input should be greater than or equal to 1",
        ),
        (
            {"overrides": {"bert-base": {"finetune": {"steps": {"sst2": 0}}}}},
            "config: overrides.bert-base.finetune.steps.sst2: input should be greater than or",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(change, expected):
    (line,) = mistakes(change)
    assert line.startswith(expected)


def test_several_mistakes_are_several_lines():
    lines = mistakes({"familes": [], "tasks": ["sst3"], "prime": {"rows": 0}})
    assert len(lines) == 3
    assert all(line.startswith("config: ") for line in lines)


def test_a_missing_key_is_named():
    raw = merged()
    del raw["prime"]["steps"]
    with pytest.raises(ConfigError, match=r"^config: prime\.steps: missing key$"):
        validate(raw)


def test_a_task_without_steps_is_named():
    raw = merged()
    del raw["finetune"]["steps"]["rte"]
    with pytest.raises(ConfigError, match=r"^config: finetune\.steps\.rte is missing although .*$"):
        validate(raw)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.yaml", "tasks: [sst2\n"),
        ("broken.json", "{'tasks': 1}"),
        ("list.yaml", "- tasks\n"),
        ("binary.yaml", b"\xff\xfe\x00"),
        ("missing.yaml", None),
    ],
)
def test_an_unreadable_file_is_one_line(tmp_path, name, content):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as error:
        configuration.load([file])
    (line,) = str(error.value).splitlines()
    assert str(file) in line


# --- Presets and the schema --------------------------------------------------------------------


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(path):
    settings = validate(preset(path))
    assert settings.variants
    assert set(settings.overrides) <= set(settings.variants)


def test_only_the_default_owns_the_results_folder():
    folders = {path.stem: validate(preset(path)).results for path in PRESETS}
    assert folders["config"] == "results"
    others = [folder for name, folder in folders.items() if name != "config"]
    assert len(set(others)) == len(others)
    assert all(folder.startswith("results/") for folder in others)


def test_the_schema_file_is_the_settings_schema():
    file = ROOT / "workflow/schemas/config.schema.yaml"
    assert yaml.safe_load(file.read_text()) == configuration.schema(), (
        f"run: muxplm schema > {file.relative_to(ROOT)}"
    )


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_fit_the_schema(path):
    jsonschema.validate(preset(path), configuration.schema())


def test_the_schema_knows_no_other_keys():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged({"prime": {"step": 1}}), configuration.schema())


# --- The round trip every step relies on -------------------------------------------------------


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_settings_survive_json(path, tmp_path):
    settings = validate(preset(path))
    file = tmp_path / "config.json"
    file.write_text(settings.model_dump_json())
    again = configuration.load([file])
    assert again.model_dump() == settings.model_dump()
    assert recipes(again) == recipes(settings)


# --- Recipes -----------------------------------------------------------------------------------


def recipes(settings) -> dict:
    """Every recipe that decides whether a training is repeated, by (stage, model)."""
    found = {}
    for model, variant in settings.variants.items():
        for stage in variant.stages:
            found[stage, model] = settings.recipe(stage, model)
        found["finetune", model] = settings.recipe(
            "finetune", model, settings.tasks, settings.training_seeds
        )
    return found


def changed(*changes: dict) -> set:
    """Which of the recipes common to both differ from the default's."""
    before, after = recipes(validate(merged())), recipes(validate(merged(*changes)))
    return {cell for cell in before.keys() & after.keys() if before[cell] != after[cell]}


@pytest.mark.parametrize("stage", STAGES)
def test_an_override_concerns_its_variant_from_its_stage_on(stage):
    model = "mux-bert-base-n2"
    later = STAGES[STAGES.index(stage) :]
    assert changed({"overrides": {model: {stage: {"rows": 7}}}}) == {(s, model) for s in later}


def test_an_overridden_model_setting_concerns_all_trainings_of_its_variant():
    model = "mux-bert-base-n2"
    assert changed({"overrides": {model: {"model": {"dropout": 0.3}}}}) == {
        (stage, model) for stage in STAGES
    }


def test_an_override_that_says_the_default_changes_nothing():
    rows = merged()["finetune"]["rows"]
    assert changed({"overrides": {"bert-base": {"finetune": {"rows": rows}}}}) == set()


def test_a_stage_setting_concerns_all_variants_from_that_stage_on():
    cells = recipes(validate(merged()))
    assert changed({"finetune": {"rows": 7}}) == {c for c in cells if c[0] == "finetune"}
    skips_pretraining = {c for c in cells if c[1].startswith("tmux")}
    assert changed({"pretrain": {"rows": 7}}) == {
        c for c in cells if c[0] != "prime" and c not in skips_pretraining
    }


@pytest.mark.parametrize("change", NO_INFLUENCE, ids=lambda change: next(iter(change)))
def test_what_does_not_decide_an_outcome_repeats_no_training(change):
    assert changed(change) == set()


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"synthetic": {"seed": 2}}},
        {"tokenizer": {"vocab_size": 1001}},
        {"max_length": 31},
        {"precision": "bf16"},
        {"model": {"dropout": 0.1}},
    ],
    ids=str,
)
def test_what_concerns_every_training_repeats_every_training(change):
    assert changed(change) == set(recipes(validate(merged())))


def test_a_shape_concerns_its_size_alone():
    variants = validate(merged()).variants
    of_base = {cell for cell in recipes(validate(merged())) if variants[cell[1]].size == "base"}
    assert changed({"shapes": {"base": {"layers": 4}}}) == of_base


def test_a_size_without_a_shape_is_named():
    raw = merged()
    del raw["shapes"]["large"]
    with pytest.raises(configuration.ConfigError, match=r"shapes\.large is missing although sizes"):
        validate(raw)


def test_one_tasks_steps_concern_that_task_alone():
    before = validate(merged())
    after = validate(merged({"finetune": {"steps": {"rte": 7}}}))
    for task in ("rte", "sst2"):
        same = before.recipe("finetune", "bert-base", [task], [1]) == after.recipe(
            "finetune", "bert-base", [task], [1]
        )
        assert same == (task != "rte")


def test_a_raised_integer_repeats_its_stage_and_later_ones(monkeypatch):
    before = recipes(validate(merged()))
    monkeypatch.setitem(configuration.NUMERICS, "pretrain", 99)
    after = recipes(validate(merged()))
    model = "mux-bert-base-n2"
    differ = [stage for stage in STAGES if before[stage, model] != after[stage, model]]
    assert differ == ["pretrain", "finetune"]


def test_throughput_is_measured_anew_only_for_what_it_depends_on():
    before = validate(merged()).throughput_recipe("base")
    for change in ({"prime": {"steps": 7}}, {"composition_seeds": [7]}, {"results": "elsewhere"}):
        assert validate(merged(change)).throughput_recipe("base") == before
    for change in ({"throughput": {"trials": 1}}, {"instances": [1, 2]}, {"precision": "bf16"}):
        assert validate(merged(change)).throughput_recipe("base") != before
