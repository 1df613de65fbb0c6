# The one file every step reads its settings from. Steps take it as `ancient`: which of them a change
# concerns is decided by their recipes, not by the file's date.
rule config:
    output:
        paths.config,
    log:
        paths.log("config"),
    conda:
        ENVIRONMENT
    params:
        settings=settings.model_dump_json(),
    shell:
        "printf '%s\n' {params.settings:q} > {output} 2> {log}"
