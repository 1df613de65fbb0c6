# Tables, figures and claims, each from the results that the grid lists for it.


rule table:
    input:
        target_inputs,
    output:
        tex=paths.table("{target}", "tex"),
        csv=report(
            paths.table("{target}", "csv"),
            category="Tables",
            labels={"table": "{target}"},
            caption="../report/table.rst",
        ),
        md=paths.table("{target}", "md"),
    log:
        paths.log("tables/{target}"),
    benchmark:
        paths.benchmark("tables/{target}")
    wildcard_constraints:
        target="|".join(experiments.TABLES),
    conda:
        ENVIRONMENT
    threads: threads("tables")
    resources:
        **job("tables"),
    params:
        config=paths.config,
        code=numerics.code_digest("reporting"),
        settings=report_recipe,
    shell:
        "muxplm table {wildcards.target} --config {params.config} > {log} 2>&1"


rule figure:
    input:
        target_inputs,
    output:
        pdf=paths.figure("{target}", "pdf"),
        png=report(
            paths.figure("{target}", "png"),
            category="Figures",
            labels={"figure": "{target}"},
            caption="../report/figure.rst",
        ),
        csv=paths.figure("{target}", "csv"),
    log:
        paths.log("figures/{target}"),
    benchmark:
        paths.benchmark("figures/{target}")
    wildcard_constraints:
        target="|".join(experiments.FIGURES),
    conda:
        ENVIRONMENT
    threads: threads("figures")
    resources:
        **job("figures"),
    params:
        config=paths.config,
        code=numerics.code_digest("reporting"),
        settings=report_recipe,
        caption=lambda wildcards: captions.figure(wildcards.target, settings),
    shell:
        "muxplm figure {wildcards.target} --config {params.config} > {log} 2>&1"


rule claims:
    input:
        [path for name in selected(experiments.targets()) for path in inputs_of(name)],
    output:
        md=paths.claims("md"),
        html=report(paths.claims("html"), category="Claims", caption="../report/claims.rst"),
        csv=paths.claims("csv"),
    log:
        paths.log("claims"),
    benchmark:
        paths.benchmark("claims")
    conda:
        ENVIRONMENT
    threads: threads("claims")
    resources:
        **job("claims"),
    params:
        config=paths.config,
        code=numerics.code_digest("reporting"),
        settings=settings.report_recipe(*experiments.targets()),
    shell:
        "muxplm claims --config {params.config} > {log} 2>&1"
