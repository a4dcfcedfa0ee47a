"""Snakemake, ending with the process that started it: `python -m study_lib.workflow.engine --snakefile …`."""

from study_lib.workflow.subprocesses import stop_with_parent


def main() -> None:
    """Run Snakemake's own command line."""
    stop_with_parent()
    from snakemake.cli import main as snakemake  # takes seconds

    count_lone_jobs()
    snakemake()


def count_lone_jobs() -> None:
    """Make a job that is ready alone take its cores.

    Snakemake 9.15 frees the cores of such a job when it ends but does not take them when it begins: after each of them
    it believes in more cores than there are, and starts jobs beside each other that each need the whole machine.
    """
    from snakemake.scheduling.job_scheduler import JobScheduler

    select = JobScheduler.job_selector

    def selected(self: JobScheduler, jobs: list) -> list:
        chosen = select(self, jobs)
        if len(jobs) == 1:
            with self._lock:
                self.update_available_resources(chosen)
        return chosen

    JobScheduler.job_selector = selected


if __name__ == "__main__":
    main()
