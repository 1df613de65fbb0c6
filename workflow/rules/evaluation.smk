# Scores under every composition seed, and throughput of all models in one process.

for bundle, tasks in settings.bundles.items():

    rule:
        name:
            f"score_{bundle}"
        input:
            data=[paths.task_data(task) for task in tasks],
            tokenizer=paths.tokenizer,
            models=[
                paths.finetuned("{model}", task, seed)
                for task in tasks
                for seed in settings.training_seeds
            ],
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


rule throughput:
    input:
        data=[paths.task_data(task) for task in settings.tasks],
        tokenizer=paths.tokenizer,
    output:
        paths.throughput,
    log:
        paths.log("throughput"),
    benchmark:
        paths.benchmark("throughput")
    conda:
        ENVIRONMENT
    # Nothing may run beside it: on one machine it takes every core.
    threads: max(workflow.cores or 1, threads("throughput"))
    resources:
        **job("throughput"),
    params:
        config=paths.config,
        recipe=settings.throughput_recipe(),
    shell:
        "muxplm throughput --config {params.config} > {log} 2>&1"
