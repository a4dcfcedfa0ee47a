"""Snakemake, ending with the process that started it: `python -m study_lib.workflow.engine --snakefile …`."""

from study_lib.workflow.subprocesses import stop_with_parent


def main() -> None:
    """Run Snakemake's own command line."""
    stop_with_parent()
    from snakemake.cli import main as snakemake  # takes seconds

    snakemake()


if __name__ == "__main__":
    main()
