"""Settings: each mistake is one line that names the key; recipes change only when they must."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from presets import ROOT, merged

from muxplm import config as configuration
from muxplm import recipes
from muxplm.config import ConfigError, validate

PRESETS = sorted((ROOT / "config").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the default config is found from there


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
        ({"prime": {"steps": "ten"}}, "config: prime.steps: 'ten' is text, not a number"),
        ({"prime": {"steps": "1.5"}}, "config: prime.steps: '1.5' is text, not a number"),
        ({"training_seeds": [-1]}, "config: training_seeds.0: input should be greater than or"),
        ({"composition_seeds": [2**33]}, "config: composition_seeds.0: input should be less than"),
        ({"tasks": ["sst2", "sst2"]}, "config: tasks: 'sst2' stands there twice"),
        ({"throughput": {"micro_batches": []}}, "config: throughput.micro_batches: list should"),
        ({"instances": [10**6]}, "config: instances.0: input should be less than or equal"),
        ({"max_length": 10**9}, "config: max_length: input should be less than or equal"),
        ({"tokenizer": {"vocab_size": 10**12}}, "config: tokenizer.vocab_size: input should be"),
        # what would mean more than a name in a path or a shell line
        (
            {"ablations": [{"multiplexer": "x`touch pwned`"}]},
            "config: ablations.0.multiplexer: string should match pattern",
        ),
        (
            {"ablations": [{"demultiplexer": "/../../../../outside"}]},
            "config: ablations.0.demultiplexer: string should match pattern",
        ),
        ({"results": "a{b}"}, "config: results: 'a{b}' is no folder that a rule can name"),
        # what is not pinned
        (
            {"tokenizer": {"pretrained": "a/b", "revision": "main"}},
            "config: tokenizer.revision: string should match pattern",
        ),
        (
            {"tokenizer": {"pretrained": "a/b"}},
            "config: tokenizer: a/b is not pinned: set tokenizer.revision to a commit",
        ),
        (
            {"released": {"revisions": {"a/b": "main"}}},
            "config: released.revisions.a/b: string should match pattern",
        ),
        # what does not fit together
        (
            {"shapes": {"base": {"heads": 3}}},
            "config: shapes.base: hidden 128 is not a multiple of heads 3",
        ),
        (
            {"data": {"source": "local"}},
            "config: data_folder is missing: name the folder, --config data_folder=DIR",
        ),
        (
            {"without": ["mux-bert-base-n10-contextul"]},
            "config: without: there is no variant mux-bert-base-n10-contextul in this config; did you "
            "mean 'mux-bert-base-n10-contextual'?",
        ),
        (
            {"pretrain": {"short": {"length": 5, "steps": 3}}},
            "config: pretrain.short.length: 5 does not divide max_length, 32",
        ),
        (
            {"pretrain": {"short": {"length": 8}}},
            "config: pretrain.short.steps: missing key",
        ),
        (
            {"families": ["mux-bert"], "instances": [1]},
            "config: families, sizes, instances and tasks select no model",
        ),
        (
            {"tokenizer": {"unused": 10}},
            "config: tokenizer.unused: a prefix demultiplexer for N = 10 takes N + 1 spare ids, not 10",
        ),
        # overrides
        (
            {"overrides": {"bert-base": {"pretrain": {"short": {"length": 5, "steps": 3}}}}},
            "config: overrides.bert-base.pretrain.short.length: 5 does not divide max_length, 32",
        ),
        (
            {"overrides": {"mux-bert-base-n3": {}}},
            "config: overrides.mux-bert-base-n3: no such variant; did you mean 'mux-bert-base-n",
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
            {"overrides": {"bert-base": {"prime": {"steps": "x"}}}},
            "config: overrides.bert-base.prime.steps: 'x' is text, not a number",
        ),
        (
            {"overrides": {"mux-bert-base-n2": {"prime": {"steps_per_instance": -300}}}},
            "config: overrides.mux-bert-base-n2.prime.steps_per_instance: input should be greater",
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


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({"prime": {"steps": "40"}}, lambda settings: settings.prime.steps == 40),
        (
            yaml.safe_load("finetune: {learning_rate: 5e-5}"),
            lambda settings: settings.finetune.learning_rate == 5e-5,
        ),
        (
            {"finetune": {"steps": {"sst2": "7"}}, "instances": ["1", "2"]},
            lambda settings: (settings.finetune.steps["sst2"], settings.instances) == (7, [1, 2]),
        ),
    ],
)
def test_a_number_may_stand_as_text(change, read):
    """As Snakemake gives the values inside `--config 'prime={steps: 40}'`."""
    assert read(validate(merged(change)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"data": {"source": "local"}, "data_folder": "nowhere"},
            "config: data_folder nowhere is not a folder",
        ),
        (
            {"throughput": {"length": 33}},
            "config: throughput.length 33 is above max_length 32",
        ),
        (
            {"data": {"source": "hub"}},
            "config: data.revisions lacks a commit of eriktks/conll2003, whose refs/convert/parquet",
        ),
        (
            {"released": {"revisions": {}}},
            "config: released.revisions lacks a commit of princeton-nlp/bert_base_1",
        ),
    ],
)
def test_data_that_is_not_there_or_not_pinned_is_named_before_anything_runs(change, expected):
    with pytest.raises(ConfigError) as error:
        settings = validate(merged(change))
        configuration.check_run(settings)
        configuration.check_pins(settings)
    assert str(error.value).startswith(expected)


# --- Presets and the schema --------------------------------------------------------------------


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(path):
    """Laid over those that the command in the preset's own head names before it."""
    named = re.search(r"^# .* --configfile (.*)$", path.read_text(), re.MULTILINE)
    files = re.findall(r"config/(\S+)\.yaml", named[1] if named else path.name) or [path.stem]
    assert files[-1] == path.stem
    below = [yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in files]
    assert validate(merged(*below, {"data_folder": "somewhere"})).variants


def test_numbers_of_the_command_line_are_numbers_in_overrides_too():
    """Snakemake hands them over as text, and YAML reads 5e-5 so."""
    changes = {"prime": {"steps": "40", "learning_rate": "5e-5"}, "pretrain": {"rows": "4"}}
    settings = validate(merged({"overrides": {"mux-bert-base-n2": changes}}))
    prime = settings.training("prime", "mux-bert-base-n2")
    assert (prime.steps, prime.learning_rate) == (40 + 2 * settings.prime.steps_per_instance, 5e-5)
    assert settings.training("pretrain", "mux-bert-base-n2").rows == 4


def test_a_rate_and_rows_depend_on_n():
    """Known values; of a rate that grows with N a recipe says what it came to, and nothing else."""
    changes = {"rows": 6, "learning_rate": 1e-3, "min_instances": 13}
    changes["learning_rate_exponent"] = {"ner": 0.5, "sst2": 0.5}
    settings = validate(merged({"finetune": changes, "pretrain": {"learning_rate_exponent": 1}}))
    found = {n: settings.training("finetune", f"mux-bert-base-n{n}") for n in (2, 5, 10)}
    assert [found[n].rows for n in (2, 5, 10)] == [7, 6, 6]
    assert settings.training("finetune", "bert-base").rows == 13
    halved = validate(merged({"finetune": changes | {"accumulation": 2}}))
    assert halved.training("finetune", "bert-base").rows == 7  # a pass; a step has two
    tagged = {n: settings.training("finetune", f"mux-bert-base-n{n}", "ner") for n in found}
    assert {n: tagged[n].rows for n in found} == {n: found[n].rows for n in found}
    rates = [tagged[n].learning_rate / 1e-3 for n in (2, 5, 10)]
    assert rates == pytest.approx([1.41421, 2.23607, 3.16228], rel=1e-5)
    pretrained = settings.training("pretrain", "mux-bert-base-n5")
    assert pretrained.learning_rate == pytest.approx(5 * settings.pretrain.learning_rate)

    spelt = {"rows": 7, "learning_rate": tagged[2].learning_rate}
    plain = {"finetune": {"learning_rate_exponent": {"sst2": 0}, "min_instances": 1} | spelt}
    cell = ("mux-bert-base-n2", "sst2", 1)
    same = validate(merged(plain, {"pretrain": {"learning_rate_exponent": 1}}))
    assert recipes.finetune(settings, *cell) == recipes.finetune(same, *cell)
    other = validate(merged({"finetune": changes | {"learning_rate_exponent": {"sst2": 0.4}}}))
    assert recipes.finetune(settings, *cell) != recipes.finetune(other, *cell)


def test_an_exponent_is_of_its_task_alone():
    by_task, without = (
        validate(merged({"finetune": {"learning_rate_exponent": {"ner": e, "pos": 0, "sst2": 0}}}))
        for e in ("0.5", 0)  # text, as Snakemake hands over
    )
    rate = without.finetune.learning_rate
    for task, grown in {"ner": 5**0.5, "pos": 1, "sst2": 1}.items():
        cell = ("mux-bert-base-n5", task)
        assert by_task.training("finetune", *cell).learning_rate == pytest.approx(rate * grown)
        same = recipes.finetune(by_task, *cell, 1) == recipes.finetune(without, *cell, 1)
        assert same == (grown == 1)
    tables = [recipes.report(settings, "tables", "table8") for settings in (by_task, without)]
    assert tables[0] != tables[1]


def test_a_config_may_leave_out_what_the_one_below_overrides():
    override = {"overrides": {"electra-base": {"finetune": {"rows": 300}}}}
    settings = validate(merged(override))
    assert settings.training("finetune", "electra-base").rows == 300
    assert settings.training("finetune", "bert-base").rows != 300
    for left_out in ({"families": ["mux-bert"]}, {"sizes": ["small"]}, {"instances": [2]}):
        assert "electra-base" not in validate(merged(override | left_out)).variants


def test_only_the_default_owns_the_results_folder():
    folders = {path.stem: validate(preset(path)).results for path in PRESETS}
    # These go on from the models of the config below, and lie beside them.
    laid_over = [name for name in folders if name.endswith("pruned")] + ["pretrainings", "base"]
    assert {folders.pop(name) for name in laid_over} == {folders["config"]} == {"results"}
    others = [folder for name, folder in folders.items() if name != "config"]
    assert len(set(others)) == len(others)
    assert all(folder.startswith("results/") for folder in others)


def test_the_schema_file_is_the_settings_schema():
    file = ROOT / "workflow/schemas/config.schema.yaml"
    assert yaml.safe_load(file.read_text()) == configuration.schema(), (
        f"run: muxplm schema > {file.relative_to(ROOT)}"
    )


def test_the_page_of_keys_names_every_key():
    schema = configuration.schema()
    keys = set(schema["properties"]).union(
        *(d.get("properties", {}) for d in schema["$defs"].values())
    )
    code = re.findall("`([^`]*)`", (ROOT / "config/README.md").read_text())
    assert keys - set(re.findall(r"\w+", " ".join(code))) == set()


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


def test_a_size_without_a_shape_is_named():
    raw = merged()
    del raw["shapes"]["large"]
    with pytest.raises(configuration.ConfigError, match=r"shapes\.large is missing although sizes"):
        validate(raw)
