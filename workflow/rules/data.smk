# Raw text to task rows, a tokenizer, and packed blocks.


rule task_data:
    output:
        paths.task_data("{task}", "{split}"),
    log:
        paths.log("task_data/{task}-{split}"),
    benchmark:
        paths.benchmark("task_data/{task}-{split}")
    priority: FIRST
    threads: threads("task_data")
    resources:
        **resources_of("task_data"),
    params:
        recipe=recipe("task_data"),
    shell:
        "muxplm task-data {wildcards.task} {wildcards.split} --recipe {params.recipe}"
        " --config {CONFIG:q} > {log:q} 2>&1"


rule tokenizer:
    output:
        paths.tokenizer,
    log:
        paths.log("tokenizer"),
    benchmark:
        paths.benchmark("tokenizer")
    priority: FIRST
    threads: threads("tokenizer")
    resources:
        **resources_of("tokenizer"),
    params:
        recipe=recipe("tokenizer"),
    shell:
        "RAYON_NUM_THREADS={threads} muxplm tokenizer --recipe {params.recipe} --config {CONFIG:q}"
        " > {log:q} 2>&1"


rule blocks:
    input:
        tokenizer=paths.tokenizer,
    output:
        paths.blocks,
    log:
        paths.log("blocks"),
    benchmark:
        paths.benchmark("blocks")
    priority: FIRST
    threads: threads("blocks")
    resources:
        **resources_of("blocks"),
    params:
        recipe=recipe("blocks"),
    shell:
        "RAYON_NUM_THREADS={threads} muxplm blocks --recipe {params.recipe} --config {CONFIG:q}"
        " > {log:q} 2>&1"
