"""Which setting changes which result, setting by setting; what each training starts from."""

import copy
from pathlib import Path

import pytest
from presets import ROOT, merged

from muxplm import config as configuration
from muxplm import experiments, hub, lineage, recipes, stages
from muxplm.released_checkpoints import released_id
from muxplm.settings import Settings
from muxplm.stages import TRAININGS

MODEL, PLAIN, TMUX = "mux-bert-base-n2", "bert-base", "tmux-base-n2"
DATA = {"task_data"}
TEXT = {"tokenizer", "blocks"}
SCORES = {"score", "ensembles", "compositions"}
REPORT = {"tables"}
PRUNED = ("mux-bert-base-n2-cofi0.6", "bert-base-fisher0.6")
PRUNING = {"prune", "score"}
AFTER = {"finetune", *SCORES, *PRUNING}
AFTER_PRETRAINING = {"pretrain", "muxology", *AFTER}
MODELS = {"prime", *AFTER_PRETRAINING}
ALL = DATA | TEXT | MODELS | {"throughput"}


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the default config is found from there


def settings_with(*changes: dict) -> Settings:
    pruned = {"sparsities": [0.6], "tasks": ["sst2", "rte"], "by": ["cofi", "fisher"]}
    return configuration.validate(merged({"pruned": pruned}, *changes))


def digests(settings: Settings) -> dict:
    """The recipe of each kind of result, by (stage, cell): one model of each kind, two tasks."""
    found = {}
    for task in ("sst2", "rte"):
        for split in hub.SPLITS:
            found["task_data", task, split] = recipes.task_data(settings, task, split)
    found["tokenizer",] = recipes.tokenizer(settings)
    found["blocks",] = recipes.blocks(settings)
    for model in (MODEL, PLAIN, TMUX):
        variant = settings.variants[model]
        for stage in variant.stages:
            found[stage, model] = getattr(recipes, stage)(settings, model)
        for task in ("sst2", "rte"):
            found["finetune", model, task] = recipes.finetune(settings, model, task, 1)
            for stage in SCORES:
                found[stage, model, task] = getattr(recipes, stage)(settings, model, task)
        if variant.recipe.objective:
            found["muxology", model] = recipes.muxology(settings, model)
    for model in PRUNED if settings.pruned_tasks else ():
        for task in ("sst2", "rte"):
            found["prune", model, task] = recipes.prune(settings, model, task, 1)
            found["score", model, task] = recipes.score(settings, model, task)
    found["throughput", "base"] = recipes.throughput(settings, "base")
    found["tables", "table1"] = recipes.report(settings, "tables", "table1")
    return {cell: recipes.digest(recipe) for cell, recipe in found.items()}


def changed(change: dict, base: dict | None = None) -> set:
    before, after = digests(settings_with(base or {})), digests(settings_with(base or {}, change))
    return {cell for cell in before if before[cell] != after[cell]}


def stages_of(cells) -> set:
    return {cell[0] for cell in cells}


# --- Every setting -----------------------------------------------------------------------------

# A change of each setting, and the kinds of results that it repeats.
TRAINED = {"learning_rate": 7.0e-4, "warmup": 0.3, "weight_decay": 0.1, "adam_epsilon": 1.0e-5}
TRAINED |= {"rows": 70, "accumulation": 2}  # more rows than min_instances asks for
SETTINGS = {
    # Where things lie, and how the work is scheduled.
    "results": ("elsewhere", set()),
    "scratch": ("elsewhere", set()),
    "data_folder": ("elsewhere", set()),  # of the synthetic source, which reads none
    "bundle": ("task", set()),
    "resources.pretrain.threads": (7, set()),
    "resources.pretrain.mem_mb": (7, set()),
    "resources.pretrain.runtime": (7, set()),
    "resources.pretrain.gpu": (3, set()),
    "resources.pretrain.processes": (3, set()),
    "plan.flops": (1.0, set()),
    "plan.startup_seconds": (1.0, set()),
    "plan.jobs_at_once": (7, set()),
    "prime.save_every": (7, set()),
    "pretrain.save_every": (7, set()),
    "finetune.save_every": (7, set()),
    "prune.save_every": (7, set()),
    "prime.mask_rate": (0.5, REPORT),  # priming masks nothing; a table prints it
    "data.revisions": ({"a/b": "0" * 40}, set()),  # of the Hub
    "tokenizer.revision": ("0" * 40, set()),
    "released.revisions": ({"a/b": "0" * 40}, None),  # another workflow: below
    "released.mirror": ("elsewhere", None),
    # Which cells there are: captions and speed-ups are of the whole grid.
    "families": (["bert", "tmux", "mux-bert"], REPORT | {"throughput"}),
    "sizes": (["base"], REPORT),
    "instances": ([1, 2], REPORT | {"throughput"}),
    "tasks": (["sst2", "rte", "qqp"], REPORT),
    "ablations": ([{"multiplexer": "sign"}], set()),
    "dialects": (["released"], set()),
    "pretraining_seeds": ([1, 2], set()),
    "without": (["mux-bert-base-n10-prefix"], set()),
    "overrides": ({"mux-bert-base-n5": {"prime": {"steps": 7}}}, REPORT),
    "pruned.sparsities": ([0.6, 0.7], set()),
    "pruned.instances": ([2, 5, 1], set()),
    "pruned.tasks": (["sst2", "qqp", "rte"], set()),
    "pruned.by": (["fisher", "cofi"], set()),
    "pruned.precisions": (["int8"], set()),
    # Evaluation.
    "training_seeds": ([1, 2, 3, 4], SCORES | REPORT),
    "composition_seeds": ([1, 2], SCORES | REPORT),
    "throughput.batch": (7, {"throughput"}),
    "throughput.length": (7, {"throughput"}),
    "throughput.batches": (7, {"throughput"}),
    "throughput.trials": (7, {"throughput"}),
    "throughput.micro_batches": ([7], {"throughput"}),
    "data.max_validation_rows": (7, DATA | SCORES | {"throughput"}),
    "data.synthetic.validation_rows": (7, DATA | SCORES | {"throughput"}),
    # Outcomes.
    "precision": ("bf16", MODELS | {"throughput"}),
    "max_length": (33, (ALL | REPORT) - DATA - {"tokenizer"}),
    "data.source": ("hub", ALL | REPORT),
    "data.max_train_rows": (7, DATA | AFTER),
    "data.max_documents": (7, ALL - DATA),
    "data.validation_fraction": (0.5, ALL - DATA),
    "data.synthetic.seed": (7, ALL),
    "data.synthetic.documents": (7, ALL - DATA),
    "data.synthetic.train_rows.sst2": (7, DATA | AFTER),
    "tokenizer.pretrained": (".", ALL - DATA),
    "tokenizer.vocab_size": (1001, ALL - DATA),
    "tokenizer.trim": (False, ALL - DATA),
    "tokenizer.unused": (17, ALL - DATA),
    "model.dropout": (0.3, MODELS | REPORT | {"throughput"}),
    "model.initializer_range": (0.3, MODELS | REPORT | {"throughput"}),
    "model.demultiplexer_layers": (3, MODELS | REPORT | {"throughput"}),
    "shapes.base.layers": (3, MODELS | REPORT | {"throughput"}),
    "shapes.base.hidden": (64, MODELS | REPORT | {"throughput"}),
    "shapes.base.heads": (2, MODELS | REPORT | {"throughput"}),
    "shapes.base.intermediate": (64, MODELS | REPORT | {"throughput"}),
    "shapes.base.embedding": (64, REPORT | {"throughput"}),  # ELECTRA's alone, which is timed too
    "finetune.max_length": (31, AFTER | REPORT),  # beyond max_length: more positions, so all
    "prime.steps": (7, MODELS | REPORT),
    "prime.steps_per_instance": (7, MODELS | REPORT),
    "pretrain.steps": (7, AFTER_PRETRAINING | REPORT),
    "pretrain.steps_per_instance": (7, AFTER_PRETRAINING | REPORT),
    "pretrain.mask_rate": (0.5, AFTER_PRETRAINING | REPORT),
    "prime.short": ({"length": 8, "steps": 7}, MODELS | REPORT),
    "pretrain.short": ({"length": 8, "steps": 7}, AFTER_PRETRAINING | REPORT),
    "finetune.steps.sst2": (7, AFTER | REPORT),
    "prime.learning_rate_exponent": (0.25, MODELS | REPORT),
    "pretrain.learning_rate_exponent": (0.25, AFTER_PRETRAINING | REPORT),
    "finetune.learning_rate_exponent.sst2": (0.25, AFTER | REPORT),
    "finetune.min_instances": (100, AFTER | REPORT),
    **{f"prime.{key}": (value, MODELS | REPORT) for key, value in TRAINED.items()},
    **{f"pretrain.{key}": (v, AFTER_PRETRAINING | REPORT) for key, v in TRAINED.items()},
    **{f"finetune.{key}": (value, AFTER | REPORT) for key, value in TRAINED.items()},
    "prune.steps.sst2": (7, PRUNING),
    "prune.final_steps.sst2": (7, PRUNING),
    **{f"prune.{key}": (value, PRUNING) for key, value in TRAINED.items()},
    "prune.final_learning_rate": (7.0e-4, PRUNING),
    "prune.mask_learning_rate": (0.2, PRUNING),
    "prune.sparsity_warmup": (0.3, PRUNING),
    "prune.layer_weight": (0.5, PRUNING),
    "prune.fisher_passes": (7, PRUNING),
}


def leaves(node: dict, definitions: dict) -> list[str]:
    """The dotted keys of the settings' schema; a mapping by name counts as one of its entries."""
    found = []
    for key, value in node["properties"].items():
        kinds = [value, *value.get("anyOf", ())]
        named = [k["$ref"].split("/")[-1] for k in kinds if "$ref" in k]
        entries = [k["additionalProperties"] for k in kinds if k.get("additionalProperties")]
        inside = [definitions[name] for name in named]
        inside += [definitions[e["$ref"].split("/")[-1]] for e in entries if "$ref" in e]
        found += [f"{key}.{leaf}" for i in inside for leaf in leaves(i, definitions)] or [key]
    return found


def test_every_setting_is_classified():
    schema = configuration.schema()
    names = {"shapes.base": "shapes", "resources.pretrain": "resources"}
    listed = set()
    for key in SETTINGS:
        for name, short in names.items():
            key = key.replace(f"{name}.", f"{short}.")
        if key.endswith(".short"):
            listed |= {f"{key}.length", f"{key}.steps"}
            continue
        steps = ("finetune.steps", "prune.steps", "prune.final_steps")
        by_task = (*steps, "finetune.learning_rate_exponent", "data.synthetic.train_rows")
        for name in by_task:
            key = name if key.startswith(f"{name}.") else key
        listed.add(key)
    assert listed == set(leaves(schema, schema["$defs"]))


@pytest.mark.parametrize("key", [key for key, (_, kinds) in SETTINGS.items() if kinds is not None])
def test_a_setting_repeats_what_it_can_change_and_nothing_else(key):
    value, kinds = SETTINGS[key]
    change = value
    for part in reversed(key.split(".")):
        change = {part: change}
    if key == "data.source":
        change["data"]["revisions"] = {repo.name: "0" * 40 for repo in hub.TASKS.values()}
    assert stages_of(changed(change)) == kinds


# --- Which cells -------------------------------------------------------------------------------


def test_an_unused_source_decides_nothing():
    """In a run on the Hub's data the size of the synthetic language is no business of any cell."""
    base = {"data": {"source": "hub"}}
    assert changed({"data": {"synthetic": {"documents": 7, "seed": 7}}}, base) == set()


@pytest.mark.parametrize("stage", TRAININGS[:-1])
def test_an_override_concerns_its_variant_from_its_stage_on(stage):
    found = changed({"overrides": {MODEL: {stage: {"rows": 70}}}})
    later = {*TRAININGS[TRAININGS.index(stage) : -1], *SCORES}
    later |= {"muxology"} if stage != "finetune" else set()
    wanted = {(s, MODEL) for s in later} | {(s, PRUNED[0]) for s in PRUNING}
    assert {cell[:2] for cell in found} == wanted | {("tables", "table1")}


def test_an_override_that_says_the_default_changes_no_training():
    rows = merged()["finetune"]["rows"]
    assert changed({"overrides": {PLAIN: {"finetune": {"rows": rows}}}}) <= {("tables", "table1")}


def test_one_tasks_rows_steps_or_exponent_concern_that_task_alone():
    for change in (
        {"finetune": {"steps": {"rte": 7}}},
        {"finetune": {"learning_rate_exponent": {"rte": 0.25}}},
        {"data": {"synthetic": {"train_rows": {"rte": 7}}}},
    ):
        cells = {cell for cell in changed(change) if cell[0] in ("task_data", *AFTER)}
        assert cells and all("rte" in cell for cell in cells)


def test_validation_rows_leave_the_training_split_alone():
    found = changed({"data": {"synthetic": {"validation_rows": 7}}})
    assert ("task_data", "sst2", "train") not in found


def test_a_cells_recipe_does_not_depend_on_what_shares_its_job():
    one = settings_with()
    other = settings_with({"bundle": "cell", "training_seeds": [5, 1], "tasks": ["rte"]})
    assert recipes.finetune(one, MODEL, "rte", 1) == recipes.finetune(other, MODEL, "rte", 1)
    assert recipes.finetune(one, MODEL, "rte", 1) != recipes.finetune(one, MODEL, "rte", 2)


def test_a_shape_concerns_its_size_alone():
    assert {c for c in changed({"shapes": {"large": {"layers": 4}}})} == set()


@pytest.mark.parametrize("stage", [s for s, stage in stages.STAGES.items() if stage.numerics])
def test_a_raised_integer_repeats_its_stage_and_later_ones(stage, monkeypatch):
    before = digests(settings_with())
    old = stages.STAGES[stage]
    new = stages.Stage(old.code, old.numerics + 1, old.computes)
    monkeypatch.setitem(stages.STAGES, stage, new)
    after = digests(settings_with())
    later = {
        "task_data": DATA | AFTER | {"throughput"},
        "tokenizer": ALL - DATA,
        "blocks": {"blocks"} | MODELS,
        "prime": MODELS,
        "pretrain": AFTER_PRETRAINING,
        "finetune": AFTER,
        "prune": PRUNING,
        "released": set(),
        "published_scores": set(),
    }.get(stage, {stage})
    assert stages_of(cell for cell in before if before[cell] != after[cell]) == later


def test_code_of_reports_repeats_them(monkeypatch):
    monkeypatch.setattr(recipes, "code_digest", lambda stage: "other")
    before = settings_with()
    assert recipes.report(before, "tables", "table1")["code"] == "other"


# --- Pruning -----------------------------------------------------------------------------------


def test_a_pruned_variant_repeats_none_that_is_not():
    """Neither where one is added, nor where its training changes."""
    without = digests(configuration.validate(merged()))
    pruned = settings_with()
    assert {cell: recipe for cell, recipe in digests(pruned).items() if cell in without} == without
    assert len(without) < len(digests(pruned))
    found = changed({"overrides": {PRUNED[0]: {"prune": {"rows": 7}}}})
    assert {cell[:2] for cell in found} == {(stage, PRUNED[0]) for stage in PRUNING}


def test_each_way_of_pruning_has_settings_of_its_own():
    rate = changed({"prune": {"mask_learning_rate": 0.2, "layer_weight": 0.5}})
    assert {cell[1] for cell in rate} == {PRUNED[0]}
    assert {cell[1] for cell in changed({"prune": {"fisher_passes": 7}})} == {PRUNED[1]}


def test_a_pruned_cell_starts_from_its_own_dense_one():
    settings = settings_with()
    for name, parent in zip(PRUNED, (MODEL, PLAIN), strict=True):
        found = lineage.origin(settings, "prune", name, "rte", 2)
        assert found.path == settings.paths.finetuned(parent, "rte", 2)
        assert found.recipe == recipes.digest(recipes.finetune(settings, parent, "rte", 2))


def test_a_set_of_timed_models_reads_the_pruned_ones_alone():
    settings = settings_with()
    found = {name for name, *_ in recipes.timed_cells(settings, "pruned")}
    assert found == {name for name, variant in settings.variants.items() if variant.sparsity}
    assert recipes.timed_cells(settings, "base") == []
    before, after = (
        recipes.throughput(settings_with(change), "pruned")
        for change in ({}, {"prune": {"rows": 7}})
    )
    assert before["models"][PLAIN] == after["models"][PLAIN]
    assert before["models"][PRUNED[0]] != after["models"][PRUNED[0]]


def test_another_precision_is_scored_by_the_same_cells():
    """Its score's recipe differs by the precision alone, and no other result's by its being there."""
    settings = settings_with({"pruned": {"precisions": ["int8"]}})
    assert digests(settings) == digests(settings_with())
    for name in (MODEL, PLAIN, *PRUNED):
        own, other = (recipes.score(settings, n, "sst2") for n in (name, f"{name}-int8"))
        assert own | {"precision": "int8"} == other != own
        path = settings.paths.finetuned(name, "sst2", 1)
        assert lineage.cell(settings, f"{name}-int8", "sst2", 1) == path
    timed = recipes.throughput(settings, "pruned")["models"]
    for name in (MODEL, *PRUNED):
        assert timed[f"{name}-int8"] == timed[name] | {"precision": "int8"}


# --- Data that changes under one name ----------------------------------------------------------


def local(folder: Path, listed: bool):
    """A folder in the Hub's layout, of files with any content."""
    names = [f"glue/sst2/{split}.parquet" for split in hub.SPLITS] + ["corpus/a.parquet"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    if listed:
        (folder / "SHA256SUMS").write_text("".join(f"0{i}  {n}\n" for i, n in enumerate(names)))
    return settings_with({"data": {"source": "local"}, "data_folder": str(folder)})


def test_a_line_without_a_name_is_no_checksum(tmp_path):
    settings = local(tmp_path, True)
    before = of_folder(settings)
    with (tmp_path / "SHA256SUMS").open("a") as file:
        file.write("\nnothing-else\n")
    assert of_folder(settings) == before


def of_folder(settings) -> dict:
    recipes._files.cache_clear()
    task = {split: recipes.task_data(settings, "sst2", split) for split in hub.SPLITS}
    return {**task, "blocks": recipes.blocks(settings)}


@pytest.mark.parametrize("listed", [True, False])
def test_other_files_are_other_data(tmp_path, listed):
    settings = local(tmp_path / "a", listed)
    before = of_folder(settings)
    assert of_folder(settings) == before
    (tmp_path / "a/glue/sst2/train.parquet").write_text("other rows")
    after = of_folder(settings)
    assert {key for key in before if before[key] != after[key]} == {"train"}


def test_other_files_of_a_tokenizers_folder_are_another_tokenizer(tmp_path):
    found = []
    for content in ("one", "another"):
        (tmp_path / "tokenizer.json").write_text(content)
        recipes._files.cache_clear()
        settings = settings_with({"tokenizer": {"pretrained": str(tmp_path)}})
        found.append(recipes.digest(recipes.tokenizer(settings)))
    assert found[0] != found[1]


def test_the_same_files_elsewhere_are_the_same_data(tmp_path):
    """By their checksums; files without are told apart by their times."""
    assert of_folder(local(tmp_path / "a", True)) == of_folder(local(tmp_path / "b", True))


# --- What a training starts from ---------------------------------------------------------------


def test_variants_that_are_primed_alike_share_one_priming():
    settings = settings_with()
    shared = {
        "mux-bert-base-n2-prefix": "tmux-base-n2",
        "mux-bert-large-n2-retrieval0.5": "mux-bert-large-n2",
        MODEL: MODEL,
    }
    for model, name in shared.items():
        assert lineage.trained_as(settings, "prime", model) == name
        path = settings.paths.checkpoint("prime", name)
        assert lineage.origin(settings, "pretrain", model).path == path
    primed = [name for name, variant in settings.variants.items() if "prime" in variant.stages]
    assert len({lineage.trained_as(settings, "prime", name) for name in primed}) == 24
    assert len(primed) == 36


def test_an_override_of_one_twin_parts_them():
    settings = settings_with({"overrides": {"tmux-base-n2": {"prime": {"steps": 7}}}})
    assert lineage.trained_as(settings, "prime", "mux-bert-base-n2-prefix") != "tmux-base-n2"


def test_what_each_training_starts_from():
    settings = settings_with()
    assert lineage.origin(settings, "prime", MODEL) is None
    assert lineage.origin(settings, "pretrain", PLAIN) is None
    found = lineage.origin(settings, "finetune", MODEL, "sst2", 1)
    assert found.path == settings.paths.checkpoint("pretrain", MODEL)
    assert found.recipe == recipes.digest(recipes.pretrain(settings, MODEL))
    tmux = lineage.origin(settings, "finetune", TMUX, "sst2", 1)
    assert tmux.path == settings.paths.checkpoint("prime", TMUX)


def test_a_variant_may_start_from_another_ones_fine_tuned_cell(monkeypatch):
    """As pruning does: the parent's cell of the same task and seed, whose recipe is in the child's."""
    settings = settings_with()
    parent = settings.variants[MODEL]

    class Child(experiments.Variant):
        name = "child"

        @property
        def parent(self):
            return parent

    settings.variants["child"] = Child("mux-bert", n=2)
    found = lineage.origin(settings, "finetune", "child", "sst2", 2)
    assert found.path == settings.paths.finetuned(MODEL, "sst2", 2)
    assert found.recipe == recipes.digest(recipes.finetune(settings, MODEL, "sst2", 2))
    assert recipes.finetune(settings, "child", "sst2", 2)["before"] == found.recipe
    assert recipes.finetune(settings, "child", "sst2", 1)["before"] != found.recipe


def test_released_checkpoints_take_the_place_of_training(tmp_path):
    pinned = {"released": {"revisions": {}}}
    settings = settings_with(pinned)
    hub_id = released_id(settings.variants[MODEL])
    found = lineage.origin(settings, "finetune", MODEL, "sst2", 1)
    assert found.path == settings.paths.checkpoint("pretrain", MODEL)
    other = settings_with({"released": {"revisions": {hub_id: "1" * 40}}})
    assert recipes.released(other, MODEL) != recipes.released(settings, MODEL)
    assert recipes.published(other, MODEL, "sst2") == recipes.published(settings, MODEL, "sst2")
    folder = tmp_path / hub_id
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    mirrored = settings_with({"released": {"mirror": str(tmp_path)}})
    before = recipes.released(mirrored, MODEL)
    (folder / "config.json").write_text("{} ")
    recipes._files.cache_clear()
    assert recipes.released(mirrored, MODEL) != before


def test_published_scores_know_how_they_were_computed():
    base = {"released": {"mirror": "nowhere"}}
    before = recipes.published_scores(settings_with(base), MODEL, "sst2")
    for change in ({"precision": "bf16"}, {"finetune": {"max_length": 16}}):
        assert recipes.published_scores(settings_with(base, change), MODEL, "sst2") != before


# --- What a job is told ------------------------------------------------------------------------


def test_a_job_of_all_tasks_leaves_those_to_another_that_table_1_does_not_show():
    settings = settings_with({"bundle": "all"})
    apart = {"averaged": ["mnli", "ner"], "others": ["wnli", "cola"]}
    assert settings.bundles_of(["mnli", "wnli", "ner", "cola"]) == apart
    assert settings.bundles_of(["mnli"]) == {"averaged": ["mnli"]}
    assert settings.bundles_of(["cola"]) == {"others": ["cola"]}
    assert settings.bundles_of([]) == {}


def test_a_bundles_recipe_is_of_its_cells():
    settings = settings_with()
    two = recipes.of_job(settings, "finetune", model=MODEL, task=["sst2"], seed=[1, 2])
    assert two != recipes.of_job(settings, "finetune", model=MODEL, task=["sst2"], seed=[1])
    other = copy.deepcopy(merged())
    other["finetune"]["steps"]["rte"] = 7
    again = configuration.validate(other)
    assert two == recipes.of_job(again, "finetune", model=MODEL, task=["sst2"], seed=[1, 2])
