"""Command lines: names that are none, numbers out of bounds, steps whose inputs are not there."""

from malformed import Case
from malformed.configs import written
from malformed.data import file_damages, gone
from malformed.world import MODEL, PLAIN

TYPED = {
    "nonsense": "nonsense",
    "table": "name",
    "table table99": "table99",
    "table ''": "table",
    "table ../table1": "table1",
    "table table1 table2": "table2",
    "table table3": "results/",
    "figure": "name",
    "figure fig1": "fig1",
    "figure table1": "table1",
    "table pareto_glue": "pareto_glue",
    "table table1 --config nowhere.yaml": "nowhere.yaml",
    "table table1 --config config": "config",
    "table table1 --config": "--config",
    "table table1 --recipe wrong": "wrong",
    "table table1 --unknown 3": "--unknown",
    "task-data": "task",
    "task-data sst2": "split",
    "task-data sst3 train": "sst3",
    "task-data mnli train": "mnli",
    "task-data sst2 test": "test",
    "task-data sst2 ''": "split",
    "prime": "model",
    "prime nobody": "nobody",
    "prime ''": "variant",
    "prime mux-bert-base-n3": "mux-bert-base-n3",
    f"prime {PLAIN}": PLAIN,
    f"prime {MODEL} --processes 0": "--processes",
    f"prime {MODEL} --processes -1": "--processes",
    f"prime {MODEL} --processes x": "--processes",
    f"prime {MODEL} --processes 3": "rows",
    f"prime {MODEL} --recipe abc": "abc",
    "pretrain nobody": "nobody",
    "finetune nobody": "nobody",
    f"finetune {MODEL} --tasks sst3": "sst3",
    f"finetune {MODEL} --tasks mnli": "mnli",
    f"finetune {MODEL} --tasks sst2,,x": "'x'",
    f"finetune {MODEL} --tasks 'sst2 pos'": "sst2 pos",
    f"finetune {MODEL} --seeds 9": "9",
    f"finetune {MODEL} --seeds x": "'x'",
    f"finetune {MODEL} --seeds -1": "-1",
    f"finetune {MODEL} --seeds 1.0": "1.0",
    "score nobody": "nobody",
    f"score {MODEL} --tasks x": "'x'",
    f"score {MODEL} --published": "published",
    f"score {MODEL} --tasks stsb": "stsb",
    "score mux-bert-base-n2-contextual": "mux-bert-base-n2-contextual",
    f"ensemble {PLAIN}": PLAIN,
    f"compose {PLAIN}": PLAIN,
    "ensemble nobody": "nobody",
    "compose nobody": "nobody",
    "muxology nobody": "nobody",
    "muxology mux-bert-base-n2-contextual": "mux-bert-base-n2-contextual",
    "throughput": "timed",
    "throughput nobody": "nobody",
    "throughput base --recipe x": "recipe x",
    f"fetch {MODEL}": "config",
    "fetch nobody": "nobody",
    f"fetch {MODEL} --task sst2": "config",
    f"fetch {MODEL} --task x": "'x'",
    "power --seeds 1": "--seeds",
    "power --seeds x": "--seeds",
    "power --seeds ''": "--seeds",
    "power --seeds 2,": "--seeds",
    "power --seeds 2;3": "--seeds",
    "export nobody sst2 x": "nobody",
    f"export {MODEL} sst3 x": "sst3",
    f"export {MODEL} sst2 answers": "answers",
    f"export {MODEL} stsb x": "stsb",
    f"export {MODEL} sst2": "destination",
    f"export {MODEL} sst2 x --results nowhere": "nowhere",
    f"export {MODEL} sst2 x --results in.csv": "in.csv",
    f"export {MODEL} sst2 x --results mirror": "mirror",
    f"export {MODEL} sst2 in.csv/x": "in.csv",
    "demo --sentences nowhere.txt": "nowhere.txt",
    "demo --sentences config": "config",
    "demo --sentences bad.txt": "bad.txt",
    "demo --sentences empty.txt": "empty.txt",
    "demo --sentences long.txt": "long.txt",
    "demo --write x": "mux-bert-base-n10",
    "demo --config nowhere.yaml": "nowhere.yaml",
    "benchmark nonsense": "nonsense",
    "benchmark inference --precision fp16": "fp16",
    "benchmark inference --batch 0": "--batch",
    "benchmark inference --batch -1": "--batch",
    "benchmark inference --rounds 0": "--rounds",
    "benchmark inference --rounds x": "--rounds",
    "benchmark inference --output in.csv/x.json --rounds 1": "in.csv",
    "benchmark training --rounds 0": "--rounds",
    "benchmark training --output in.csv/x.json": "in.csv",
    "benchmark dag nowhere": "nowhere",
    "benchmark dag in.csv": "in.csv",
    "benchmark dag results": "results",
    "benchmark dag --than nowhere": "results",
    "benchmark dag --cores 0": "--cores",
    "pin --config nowhere.yaml": "nowhere.yaml",
    "plan --configfile nowhere.yaml": "nowhere.yaml",
    "plan --nonsense": "--nonsense",
    "schema more": "more",
}
TEXTS = {
    "bad.txt": b"\xff\xfe",
    "empty.txt": b" \n\n",
    "long.txt": b"a " * 500,
}
TASKS = ("mnli", "qqp", "qnli", "mrpc", "stsb", "rte", "sst2", "ner", "pos")


def cases():
    for typed, named in TYPED.items():
        file = next((name for name in TEXTS if name in typed), None)
        damage = written(file, TEXTS[file]) if file else lambda folder: None
        yield Case(typed, typed, (named,), damage)
    yield from _before_their_time()
    yield from _results()
    yield from _folders()
    for file in ("model.safetensors", "config.json", "done.json"):
        file = f"results/finetune/{MODEL}/sst2/seed1/{file}"
        for what, damage in file_damages(file).items():
            yield Case(f"export: {file} {what}", f"export {MODEL} sst2 x", ("seed1",), damage)


def _before_their_time():
    """Each step without what the step before it makes."""
    tokenizer, blocks = "results/data/tokenizer/tokenizer.json", "results/data/blocks/manifest.json"
    rows = "results/data/tasks/pos/train.json"
    other = {"finetune": {"learning_rate": 0.002}, "pretrain": {"learning_rate": 0.002}}
    other |= {"prime": {"learning_rate": 0.002}}
    for command, files in {
        "blocks": [tokenizer],
        f"prime {MODEL}": [tokenizer, blocks],
        f"pretrain {PLAIN}": [tokenizer, blocks],
        f"pretrain {MODEL}": [f"results/prime/{MODEL}/config.json"],
        f"finetune {PLAIN} --tasks pos": [tokenizer, rows],
        f"finetune {MODEL} --tasks pos": [f"results/pretrain/{MODEL}/config.json"],
        f"score {PLAIN} --tasks pos": [
            tokenizer,
            rows,
            f"results/finetune/{PLAIN}/pos/seed1/config.json",
        ],
        f"muxology {PLAIN}": [blocks, f"results/pretrain/{PLAIN}/config.json"],
        "throughput base": ["results/data/tokenizer/tokenizer.json"],
    }.items():
        for file in files:

            def damage(folder, file=file):
                written("other.json", other)(folder)
                gone(file)(folder)

            needed = (file, file.rpartition("/")[0])
            yield Case(
                f"{command} without {file}", f"{command} --config other.json", needed, damage
            )


def _results():
    """Files that tables, figures and claims read."""
    for task in ("sst2", "pos"):
        file = f"results/scores/{MODEL}/{task}.json"
        damages = dict(file_damages(file))
        for content in ("[]", "{}", "3", "null", '{"scores": 3}', '{"scores": [], "majority": {}}'):
            damages[content] = written(file, content)
        damages["no metrics"] = written(
            file, {"scores": [{"training_seed": 1, "composition_seed": 1}], "majority": {}}
        )
        damages["metrics a list"] = written(
            file,
            {
                "scores": [{"training_seed": 1, "composition_seed": 1, "metrics": []}],
                "majority": {},
            },
        )
        damages["text for a score"] = written(file, SCORED | {"scores": _scores("high")})
        damages["no majority"] = written(file, {"scores": _scores(0.5)})
        for what, damage in damages.items():
            yield Case(f"table1: {task} {what}", "table table1", (file,), damage)
    for file, command in {
        "results/throughput/base.json": "table table1",
        f"results/compositions/{MODEL}/sst2.json": "table composition",
    }.items():
        damages = dict(file_damages(file))
        for content in ("[]", "{}", "3", "null", '{"models": 3}', '{"runs": 3}'):
            damages[content] = written(file, content)
        for what, damage in damages.items():
            yield Case(f"{command}: {file} {what}", command, (file,), damage)


SCORED = {"majority": {"accuracy": 0.5}}


def _scores(value):
    return [
        {"training_seed": 1, "composition_seed": seed, "metrics": {"accuracy": value}}
        for seed in (1, 2)
    ]


def _folders():
    """Results and scratch where nothing can be written."""
    for key, place in (("results", "in.csv/x"), ("scratch", "in.csv"), ("results", "/dev/null/x")):
        bad = written("bad.json", {key: place, "prime": {"learning_rate": 0.5, "save_every": 1}})
        commands = ["tokenizer", "task-data sst2 train"] if key == "results" else [f"prime {MODEL}"]
        for command in commands:
            title = f"{command} into {place}"
            yield Case(title, f"{command} --config bad.json", (place,), bad)
