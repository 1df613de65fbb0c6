# The authors' checkpoints, in the place of priming and pre-training: config/released.yaml.


rule released:
    output:
        paths.checkpoint("pretrain", "{model}"),
    log:
        paths.log("released/{model}"),
    benchmark:
        paths.benchmark("released/{model}")
    threads: threads("released")
    resources:
        **resources_of("released"),
    params:
        recipe=recipe("released"),
    shell:
        "muxplm fetch {wildcards.model} --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"


rule published:
    output:
        paths.published("{model}", "{task}"),
    log:
        paths.log("released/{model}/{task}"),
    benchmark:
        paths.benchmark("released/{model}/{task}")
    threads: threads("released")
    resources:
        **resources_of("released"),
    params:
        recipe=recipe("published"),
    shell:
        "muxplm fetch {wildcards.model} --task {wildcards.task} --recipe {params.recipe} --config {CONFIG:q}"
        " > {log:q} 2>&1"


rule published_scores:
    input:
        data=task_data(["{task}"]),
        tokenizer=paths.tokenizer,
        model=paths.published("{model}", "{task}"),
    output:
        paths.published_scores("{model}", "{task}"),
    log:
        paths.log("published_scores/{model}/{task}"),
    benchmark:
        paths.benchmark("published_scores/{model}/{task}")
    threads: threads("published_scores")
    resources:
        **resources_of("published_scores"),
    params:
        recipe=recipe("published_scores"),
    shell:
        "muxplm score {wildcards.model} --tasks {wildcards.task} --published"
        " --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"
