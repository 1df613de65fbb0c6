# What is asked of trained models: scores under every composition seed, ensembles, strategies of
# composition, hidden states, and throughput.

# Pruned models, and those in a further precision, may have fewer tasks.
for kind, models, all_tasks in (
    ("", models_of("finetune"), settings.tasks),
    ("pruned_", models_of("prune", None), settings.pruned_tasks),
):
    for bundle, tasks in settings.bundles_of(all_tasks).items():

        rule:
            name:
                f"score_{kind}{bundle}"
            input:
                data=task_data(tasks),
                tokenizer=paths.tokenizer,
                models=partial(scored_cells, tasks),
            output:
                [paths.scores("{model}", task) for task in tasks],
            log:
                paths.log(f"score/{{model}}/{bundle}"),
            benchmark:
                paths.benchmark(f"score/{{model}}/{bundle}")
            wildcard_constraints:
                model=models,
            priority: urgency("score")
            threads: threads("score")
            resources:
                **resources_of("score"),
            params:
                recipe=recipe("score", task=tasks),
                tasks=",".join(tasks),
            shell:
                "muxplm score {wildcards.model} --tasks {params.tasks} --recipe {params.recipe} --config {CONFIG:q}"
                " > {log:q} 2>&1"


for bundle, tasks in settings.bundles_of(settings.tasks).items():

    rule:
        name:
            f"compositions_{bundle}"
        input:
            data=task_data(tasks),
            tokenizer=paths.tokenizer,
            models=finetuned("{model}", tasks),
        output:
            [paths.compositions("{model}", task) for task in tasks],
        log:
            paths.log(f"compositions/{{model}}/{bundle}"),
        benchmark:
            paths.benchmark(f"compositions/{{model}}/{bundle}")
        threads: threads("compositions")
        resources:
            **resources_of("compositions"),
        params:
            recipe=recipe("compositions", task=tasks),
            tasks=",".join(tasks),
        shell:
            "muxplm compose {wildcards.model} --tasks {params.tasks} --recipe {params.recipe} --config {CONFIG:q}"
            " > {log:q} 2>&1"


rule ensembles:
    input:
        data=task_data(["{task}"]),
        tokenizer=paths.tokenizer,
        models=[paths.finetuned("{model}", "{task}", seed) for seed in settings.training_seeds],
    output:
        paths.ensembles("{model}", "{task}"),
    log:
        paths.log("ensembles/{model}/{task}"),
    benchmark:
        paths.benchmark("ensembles/{model}/{task}")
    threads: threads("ensembles")
    resources:
        **resources_of("ensembles"),
    params:
        recipe=recipe("ensembles"),
    shell:
        "muxplm ensemble {wildcards.model} --tasks {wildcards.task} --recipe {params.recipe} --config {CONFIG:q}"
        " > {log:q} 2>&1"


rule muxology:
    input:
        blocks=paths.blocks,
        tokenizer=paths.tokenizer,
        checkpoint=partial(starting_checkpoint, "finetune"),
    output:
        paths.muxology("{model}"),
    log:
        paths.log("muxology/{model}"),
    benchmark:
        paths.benchmark("muxology/{model}")
    wildcard_constraints:
        model=models_of("finetune"),
    threads: threads("muxology")
    resources:
        **resources_of("muxology"),
    params:
        recipe=recipe("muxology"),
    shell:
        "muxplm muxology {wildcards.model} --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"


rule throughput:
    input:
        data=paths.task_data(recipes.timed_task(settings), "validation"),
        tokenizer=paths.tokenizer,
        cells=timed_cells,
    output:
        report(
            paths.throughput("{timed}"),
            category="Throughput",
            labels={"models": "{timed}"},
            caption="../report/throughput.rst",
        ),
    log:
        paths.log("throughput/{timed}"),
    benchmark:
        paths.benchmark("throughput/{timed}")
    threads: every_core("throughput")  # nothing may run beside it
    resources:
        **resources_of("throughput"),
    params:
        recipe=recipe("throughput"),
    shell:
        "muxplm throughput {wildcards.timed} --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"
