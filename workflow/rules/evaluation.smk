# What is asked of trained models: scores under every composition seed, ensembles, strategies of
# composition, hidden states, and throughput.

for bundle, tasks in settings.bundles.items():

    rule:
        name:
            f"score_{bundle}"
        input:
            data=[paths.task_data(task) for task in tasks],
            tokenizer=paths.tokenizer,
            models=finetuned("{model}", tasks),
        output:
            [paths.scores("{model}", task) for task in tasks],
        log:
            paths.log(f"score/{{model}}/{bundle}"),
        benchmark:
            paths.benchmark(f"score/{{model}}/{bundle}")
        conda:
            ENVIRONMENT
        threads: threads("score")
        resources:
            **job("score"),
        params:
            config=paths.config,
            seeds=settings.composition_seeds,
            tasks=",".join(tasks),
            numerics=configuration.NUMERICS["score"],
        shell:
            "muxplm score {wildcards.model} --tasks {params.tasks} --config {params.config}"
            " > {log} 2>&1"

    rule:
        name:
            f"compositions_{bundle}"
        input:
            data=[paths.task_data(task) for task in tasks],
            tokenizer=paths.tokenizer,
            models=finetuned("{model}", tasks),
        output:
            [paths.compositions("{model}", task) for task in tasks],
        log:
            paths.log(f"compositions/{{model}}/{bundle}"),
        benchmark:
            paths.benchmark(f"compositions/{{model}}/{bundle}")
        conda:
            ENVIRONMENT
        threads: threads("compositions")
        resources:
            **job("compositions"),
        params:
            config=paths.config,
            seeds=settings.composition_seeds,
            tasks=",".join(tasks),
            numerics=configuration.NUMERICS["compositions"],
        shell:
            "muxplm compose {wildcards.model} --tasks {params.tasks} --config {params.config}"
            " > {log} 2>&1"


rule ensembles:
    input:
        data=paths.task_data("{task}"),
        tokenizer=paths.tokenizer,
        models=[paths.finetuned("{model}", "{task}", seed) for seed in settings.training_seeds],
    output:
        paths.ensembles("{model}", "{task}"),
    log:
        paths.log("ensembles/{model}/{task}"),
    benchmark:
        paths.benchmark("ensembles/{model}/{task}")
    conda:
        ENVIRONMENT
    threads: threads("ensembles")
    resources:
        **job("ensembles"),
    params:
        config=paths.config,
        seeds=settings.composition_seeds,
        numerics=configuration.NUMERICS["ensembles"],
    shell:
        "muxplm ensemble {wildcards.model} --tasks {wildcards.task} --config {params.config}"
        " > {log} 2>&1"


rule muxology:
    input:
        blocks=paths.blocks,
        tokenizer=paths.tokenizer,
        checkpoint=paths.checkpoint("pretrain", "{model}"),
    output:
        paths.muxology("{model}"),
    log:
        paths.log("muxology/{model}"),
    benchmark:
        paths.benchmark("muxology/{model}")
    conda:
        ENVIRONMENT
    threads: threads("muxology")
    resources:
        **job("muxology"),
    params:
        config=paths.config,
        numerics=configuration.NUMERICS["muxology"],
    shell:
        "muxplm muxology {wildcards.model} --config {params.config} > {log} 2>&1"


rule throughput:
    input:
        data=[paths.task_data(task) for task in settings.tasks],
        tokenizer=paths.tokenizer,
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
    conda:
        ENVIRONMENT
    threads: every_core("throughput")  # nothing may run beside it
    resources:
        **job("throughput"),
    params:
        config=paths.config,
        recipe=throughput_recipe,
    shell:
        "muxplm throughput {wildcards.timed} --config {params.config} > {log} 2>&1"
