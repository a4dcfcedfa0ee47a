"""The workflow engine keeps to the cores it was given."""

import subprocess
import sys

SNAKEFILE = """
rule all:
    input: "one", "other"

rule alone:
    output: "alone"
    threads: 2
    shell: "touch {output}"

for name in ("one", "other"):
    rule:
        name: name
        input: "alone"
        output: name
        threads: 2
        shell: "date +%s.%N > {output}; sleep 1; date +%s.%N >> {output}"
"""


def test_jobs_that_need_all_cores_never_run_beside_each_other_also_after_one_that_was_ready_alone(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "study_lib.workflow.engine", "--scheduler", "greedy", "--cores", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second = sorted(
        tuple(map(float, (tmp_path / name).read_text(encoding="utf-8").split())) for name in ("one", "other")
    )
    assert first[1] <= second[0]
