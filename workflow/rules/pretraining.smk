# Priming and pre-training; of a primed model, what `muxplm demo` ships.


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
    wildcard_constraints:
        model=trained_by("prime"),
    priority: urgency("prime")
    threads: threads("prime")
    resources:
        **resources_of("prime"),
        processes=processes("prime"),
    params:
        recipe=recipe("prime"),
    shell:
        "muxplm prime {wildcards.model} --processes {resources.processes}"
        " --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"


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
    wildcard_constraints:
        model=trained_by("pretrain"),
    priority: urgency("pretrain")
    threads: threads("pretrain")
    resources:
        **resources_of("pretrain"),
        processes=processes("pretrain"),
    params:
        recipe=recipe("pretrain"),
    shell:
        "muxplm pretrain {wildcards.model} --processes {resources.processes}"
        " --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"


# Not a stage: it computes nothing, and no result is made from it.
rule shipped:
    input:
        tokenizer=paths.tokenizer,
        checkpoint=paths.checkpoint("prime", experiments.DEMO.name),
    output:
        paths.shipped,
    log:
        paths.log("shipped"),
    localrule: True
    shell:
        'muxplm demo --write "$(dirname {output:q})" --config {CONFIG:q} > {log:q} 2>&1'
