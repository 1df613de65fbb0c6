include: "workflow/Snakefile"


# Snakemake looks for a default target in this file alone, not in those that it includes.
workflow.default_target = "all"
