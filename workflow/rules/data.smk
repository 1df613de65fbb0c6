# Raw text to task rows, a tokenizer, and packed blocks.


rule task_data:
    input:
        config=ancient(paths.config),
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
        recipe=settings.data_recipe(),
    shell:
        "muxplm task-data {wildcards.task} --config {input.config} > {log} 2>&1"


rule tokenizer:
    input:
        config=ancient(paths.config),
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
        recipe=settings.data_recipe(),
    shell:
        "RAYON_NUM_THREADS={threads} muxplm tokenizer --config {input.config} > {log} 2>&1"


rule blocks:
    input:
        config=ancient(paths.config),
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
        recipe=settings.data_recipe(),
    shell:
        "RAYON_NUM_THREADS={threads} muxplm blocks --config {input.config} > {log} 2>&1"
