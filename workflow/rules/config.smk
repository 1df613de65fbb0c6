# The file every step reads its settings from. No rule makes it: Snakemake does not ask jobs after one
# that runs whether their own parameters changed, not even where its output is `ancient()`.
onstart:
    files.write_text(paths.config, settings.model_dump_json(indent=1) + "\n")
