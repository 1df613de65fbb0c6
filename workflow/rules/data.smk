# Raw text to task rows, a tokenizer, and packed blocks.


rule task_data:
    output:
        paths.task_data("{task}"),
    log:
        paths.log("task_data/{task}"),
    benchmark:
        paths.benchmark("task_data/{task}")
    conda:
        ENVIRONMENT
    threads: threads("task_data")
    resources:
        **job("task_data"),
    params:
        config=paths.config,
        recipe=settings.data_recipe(),
    shell:
        "muxplm task-data {wildcards.task} --config {params.config} > {log} 2>&1"


rule tokenizer:
    output:
        paths.tokenizer,
    log:
        paths.log("tokenizer"),
    benchmark:
        paths.benchmark("tokenizer")
    conda:
        ENVIRONMENT
    threads: threads("tokenizer")
    resources:
        **job("tokenizer"),
    params:
        config=paths.config,
        recipe=settings.data_recipe(),
    shell:
        "RAYON_NUM_THREADS={threads} muxplm tokenizer --config {params.config} > {log} 2>&1"


rule blocks:
    input:
        tokenizer=paths.tokenizer,
    output:
        paths.blocks,
    log:
        paths.log("blocks"),
    benchmark:
        paths.benchmark("blocks")
    conda:
        ENVIRONMENT
    threads: threads("blocks")
    resources:
        **job("blocks"),
    params:
        config=paths.config,
        recipe=settings.data_recipe(),
    shell:
        "RAYON_NUM_THREADS={threads} muxplm blocks --config {params.config} > {log} 2>&1"
