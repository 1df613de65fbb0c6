# Fine-tuning, and pruning, which starts from fine-tuned models and leaves its own beside them.
#
# One rule per bundle (all tasks, a task, or a task and a seed: `bundle` in the config), since on small
# models the start of a process costs more than a training.

for bundle, (tasks, seeds) in settings.trainings_of(settings.tasks).items():

    rule:
        name:
            f"finetune_{bundle}"
        input:
            data=task_data(tasks, "train"),
            tokenizer=paths.tokenizer,
            checkpoint=partial(starting_cells, tasks, seeds),
        output:
            finetuned("{model}", tasks, seeds),
        log:
            paths.log(f"finetune/{{model}}/{bundle}"),
        benchmark:
            paths.benchmark(f"finetune/{{model}}/{bundle}")
        wildcard_constraints:
            model=models_of("finetune"),
        priority: urgency("finetune")
        threads: threads("finetune")
        resources:
            **resources_of("finetune"),
            processes=processes("finetune"),
        params:
            recipe=recipe("finetune", task=tasks, seed=seeds),
            cells=f"--tasks {','.join(tasks)} --seeds {','.join(map(str, seeds))}",
        shell:
            "muxplm finetune {wildcards.model} {params.cells} --processes {resources.processes}"
            " --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"


for bundle, (tasks, seeds) in settings.trainings_of(settings.pruned_tasks).items():

    rule:
        name:
            f"prune_{bundle}"
        input:
            data=task_data(tasks, "train"),
            tokenizer=paths.tokenizer,
            checkpoint=partial(starting_cells, tasks, seeds),
        output:
            finetuned("{model}", tasks, seeds),
        log:
            paths.log(f"prune/{{model}}/{bundle}"),
        benchmark:
            paths.benchmark(f"prune/{{model}}/{bundle}")
        wildcard_constraints:
            model=models_of("prune"),
        priority: urgency("prune")
        threads: threads("prune")
        resources:
            **resources_of("prune"),
            processes=processes("prune"),
        params:
            recipe=recipe("prune", task=tasks, seed=seeds),
            cells=f"--tasks {','.join(tasks)} --seeds {','.join(map(str, seeds))}",
        shell:
            "muxplm prune {wildcards.model} {params.cells} --processes {resources.processes}"
            " --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"
