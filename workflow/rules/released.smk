# The authors' checkpoints, in the place of priming and pre-training: config/released.yaml.


rule released:
    output:
        paths.checkpoint("pretrain", "{model}"),
    log:
        paths.log("released/{model}"),
    benchmark:
        paths.benchmark("released/{model}")
    conda:
        ENVIRONMENT
    threads: threads("released")
    resources:
        **job("released"),
    params:
        config=paths.config,
        recipe=partial(recipe, "pretrain"),
    shell:
        "muxplm fetch {wildcards.model} --config {params.config} > {log} 2>&1"


rule published:
    output:
        paths.published("{model}", "{task}"),
    log:
        paths.log("released/{model}/{task}"),
    benchmark:
        paths.benchmark("released/{model}/{task}")
    conda:
        ENVIRONMENT
    threads: threads("released")
    resources:
        **job("released"),
    params:
        config=paths.config,
        recipe=published_recipe,
    shell:
        "muxplm fetch {wildcards.model} --task {wildcards.task} --config {params.config}"
        " > {log} 2>&1"


rule published_scores:
    input:
        data=paths.task_data("{task}"),
        tokenizer=paths.tokenizer,
        model=paths.published("{model}", "{task}"),
    output:
        paths.published_scores("{model}", "{task}"),
    log:
        paths.log("published_scores/{model}/{task}"),
    benchmark:
        paths.benchmark("published_scores/{model}/{task}")
    conda:
        ENVIRONMENT
    threads: threads("published_scores")
    resources:
        **job("published_scores"),
    params:
        config=paths.config,
        seeds=settings.composition_seeds,
        numerics=configuration.NUMERICS["score"],
    shell:
        "muxplm score {wildcards.model} --tasks {wildcards.task} --published"
        " --config {params.config} > {log} 2>&1"
