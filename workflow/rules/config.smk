# The file that every step of this run reads its settings from. Its name says what it holds, so that two
# runs in one results folder do not get each other's settings. No rule makes it: Snakemake does not ask
# jobs after one that runs whether their own parameters changed, not even where its output is `ancient()`.
onstart:
    try:  # a plan needs no commits, a run does
        configuration.check_pins(settings)
        files.write_text(CONFIG, settings.model_dump_json(indent=1) + "\n")
    except (configuration.ConfigError, files.DataError) as error:
        raise WorkflowError(str(error)) from None
    progress.shorten(logger, workflow.dag, settings)
    scheduling.wake_for_jobs_alone(workflow.scheduler)
