# Priming, pre-training, fine-tuning.
#
# Fine-tuning is one rule per bundle (all tasks, a task, or a task and a seed: `bundle` in the config),
# since on small models the start of a process costs more than a training.


rule prime:
    input:
        blocks=paths.blocks,
        tokenizer=paths.tokenizer,
    output:
        paths.checkpoint("prime", "{model}"),
    log:
        paths.log("prime/{model}"),
    benchmark:
        paths.benchmark("prime/{model}")
    conda:
        ENVIRONMENT
    threads: threads("prime")
    resources:
        **job("prime"),
    params:
        config=paths.config,
        recipe=partial(recipe, "prime"),
    shell:
        "muxplm prime {wildcards.model} --config {params.config} > {log} 2>&1"


rule pretrain:
    input:
        blocks=paths.blocks,
        tokenizer=paths.tokenizer,
        checkpoint=partial(starting_checkpoint, "pretrain"),
    output:
        paths.checkpoint("pretrain", "{model}"),
    log:
        paths.log("pretrain/{model}"),
    benchmark:
        paths.benchmark("pretrain/{model}")
    conda:
        ENVIRONMENT
    threads: threads("pretrain")
    resources:
        **job("pretrain"),
    params:
        config=paths.config,
        recipe=partial(recipe, "pretrain"),
    shell:
        "muxplm pretrain {wildcards.model} --config {params.config} > {log} 2>&1"


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
