# Fine-tuning.
#
# One rule per bundle (all tasks, a task, or a task and a seed: `bundle` in the config), since on small
# models the start of a process costs more than a training.

for bundle, (tasks, seeds) in settings.finetunings.items():

    rule:
        name:
            f"finetune_{bundle}"
        input:
            data=[paths.task_data(task) for task in tasks],
            tokenizer=paths.tokenizer,
            checkpoint=partial(starting_checkpoint, "finetune"),
        output:
            finetuned("{model}", tasks, seeds),
        log:
            paths.log(f"finetune/{{model}}/{bundle}"),
        benchmark:
            paths.benchmark(f"finetune/{{model}}/{bundle}")
        conda:
            ENVIRONMENT
        threads: threads("finetune")
        resources:
            **job("finetune"),
        params:
            config=paths.config,
            recipe=partial(finetuning_recipe, tasks, seeds),
            tasks=",".join(tasks),
            seeds=",".join(map(str, seeds)),
        shell:
            "muxplm finetune {wildcards.model} --tasks {params.tasks} --seeds {params.seeds}"
            " --config {params.config} > {log} 2>&1"
