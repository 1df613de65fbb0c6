# Priming and pre-training.


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
