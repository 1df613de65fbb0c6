# Fine-tuning.
#
# One rule per bundle (all tasks, a task, or a task and a seed: `bundle` in the config), since on small
# models the start of a process costs more than a training.

for bundle, (tasks, seeds) in settings.finetunings.items():

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
