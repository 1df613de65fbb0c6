# Tables, each from the scores of the variants that the grid lists for it.


rule table:
    input:
        scores=table_scores,
        throughput=table_throughput,
    output:
        tex=paths.table("{table}", "tex"),
        csv=paths.table("{table}", "csv"),
        md=paths.table("{table}", "md"),
    log:
        paths.log("tables/{table}"),
    benchmark:
        paths.benchmark("tables/{table}")
    conda:
        ENVIRONMENT
    threads: threads("tables")
    resources:
        **job("tables"),
    params:
        config=paths.config,
        code=numerics.code_digest("tables"),
        settings=settings.table_recipe(),
    shell:
        "muxplm table {wildcards.table} --config {params.config} > {log} 2>&1"
