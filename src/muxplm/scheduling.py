"""Snakemake's scheduler, which would otherwise wake too often."""

USUAL = (100, 1)  # Snakemake's own limit: jobs, and seconds in which as many may start


def wake_for_jobs_alone(scheduler):
    """Lifts Snakemake's limit on how many jobs start a second, unless the command line gave another.

    Where jobs wait for a core, Snakemake 9.27 sets a timer to look at the limit again whenever it looks,
    and looks whenever a job ends. So with each job one more timer goes round for ever: after eighty jobs
    the head takes 7 % of a core with nothing to do. No such limit is needed here.
    """
    limiter = scheduler.job_rate_limiter
    if limiter and (limiter.max_jobs, limiter.timespan) == USUAL:
        scheduler.job_rate_limiter = None
