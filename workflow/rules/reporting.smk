# Tables, figures and claims, each from the results that the grid lists for it.


rule table:
    input:
        target_inputs,
    output:
        tex=paths.table("{target}", "tex"),
        # Two forms of one table: the report has a switch between them.
        html=report(
            paths.table("{target}", "html"),
            category=lambda wildcards: captions.category(wildcards.target),
            labels=lambda wildcards: {
                "table": captions.label(wildcards.target),
                "form": "as printed",
            },
            caption="../report/table.rst",
        ),
        csv=report(
            paths.table("{target}", "csv"),
            category=lambda wildcards: captions.category(wildcards.target),
            labels=lambda wildcards: {
                "table": captions.label(wildcards.target),
                "form": "every number (CSV)",
            },
            caption="../report/table.rst",
        ),
        md=paths.table("{target}", "md"),
    log:
        paths.log("tables/{target}"),
    benchmark:
        paths.benchmark("tables/{target}")
    wildcard_constraints:
        target="|".join(experiments.TABLES),
    threads: threads("tables")
    resources:
        **resources_of("tables"),
    params:
        recipe=partial(report_recipe, "tables"),
    shell:
        "muxplm table {wildcards.target} --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"


rule figure:
    input:
        target_inputs,
    output:
        pdf=paths.figure("{target}", "pdf"),
        png=report(
            paths.figure("{target}", "png"),
            category="Figures",
            labels=lambda wildcards: {"figure": captions.label(wildcards.target)},
            caption="../report/figure.rst",
        ),
        csv=paths.figure("{target}", "csv"),
    log:
        paths.log("figures/{target}"),
    benchmark:
        paths.benchmark("figures/{target}")
    wildcard_constraints:
        target="|".join(experiments.FIGURES),
    threads: threads("figures")
    resources:
        **resources_of("figures"),
    params:
        recipe=partial(report_recipe, "figures"),
        caption=lambda wildcards: captions.figure(wildcards.target, settings),
    shell:
        "muxplm figure {wildcards.target} --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"


rule claims:
    input:
        [path for name in selected(experiments.targets()) for path in inputs_of(name)],
    output:
        md=paths.claims("md"),
        html=report(
            paths.claims("html"),
            category="Claims",
            labels={"page": "What became of the paper's claims"},
            caption="../report/claims.rst",
        ),
        csv=paths.claims("csv"),
    log:
        paths.log("claims"),
    benchmark:
        paths.benchmark("claims")
    threads: threads("claims")
    resources:
        **resources_of("claims"),
    params:
        recipe=recipes.of_job(settings, "claims", *experiments.targets()),
    shell:
        "muxplm claims --recipe {params.recipe} --config {CONFIG:q} > {log:q} 2>&1"
