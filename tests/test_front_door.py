"""`./run` before it hands over to Python: which Python, and an environment that is whole or remade.

A stand-in for the interpreter notes what it is asked to do; its version is what the test says. Making the real
environment is `test_a_newcomer_...`, a minute long and marked slow.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study_lib.provenance import REPOSITORY

STAND_IN = """#!/bin/sh
echo "$*" >> "$NOTES"
case "$1 $2" in
    "-V ") echo "Python $VERSION" ;;
    "-c "*) exec "$REAL" -c "import sys
sys.version_info, sys._base_executable = tuple(map(int, '$VERSION'.split('.'))), '$STAND_IN'
if '$LACKS': sys.modules['$LACKS'] = None
$2" ;;
    "-m venv") mkdir -p "$3/bin" && cp "$STAND_IN" "$3/bin/python" ;;
    "-m uv") echo "links=$UV_FIND_LINKS torch=$UV_TORCH_BACKEND" >> "$NOTES"; sleep "$UV_SLEEPS"; exit "$UV_FAILS" ;;
    "-m pip") exit 0 ;;
esac
echo "in $PWD" >> "$NOTES"
"""


class Door:
    """A copy of `./run` in a folder with blanks, and a stand-in for Python."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.notes_file = folder / "a pro ject", folder / "notes"
        (self.folder / "notebooks").mkdir(parents=True)
        for name in ("run", "pyproject.toml", "requirements.lock"):
            shutil.copy(REPOSITORY / name, self.folder / name)
        self.python = folder / "stand-in"
        self.python.write_text(STAND_IN, encoding="utf-8")
        self.python.chmod(0o755)
        names = folder / "bin"
        names.mkdir()
        for name in ("python3", "python3.11", "python3.12", "python3.13"):
            (names / name).symlink_to(self.python)
        self.environment = {
            "PATH": f"{names}:/usr/bin:/bin", "HOME": str(folder), "NOTES": str(self.notes_file),
            "REAL": sys.executable, "STAND_IN": str(self.python), "VERSION": "3.12.4",
            "LACKS": "", "UV_SLEEPS": "0", "UV_FAILS": "0",
        }  # fmt: skip

    def start(self, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.Popen:
        return subprocess.Popen(
            [str(self.folder / "run"), *arguments],
            cwd=cwd or self.folder.parent,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run `./run`; what the stand-in is asked in this call alone lies in `notes`."""
        self.notes_file.write_text("", encoding="utf-8")
        process = self.start(*arguments, **options)
        output, errors = process.communicate(timeout=30)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    @property
    def notes(self) -> list[str]:
        return [line for line in self.notes_file.read_text(encoding="utf-8").splitlines() if line[:2] != "-c"]

    @property
    def makes(self) -> list[str]:
        """The steps of making an environment that were taken."""
        return [line.split(" -c ")[0] for line in self.notes if line.startswith(("-m venv", "-m pip", "-m uv"))]


@pytest.fixture
def door(tmp_path):
    return Door(tmp_path)


def test_the_environment_is_made_once_with_the_lock_as_constraints(door):
    first = door.run("bench")
    assert first.returncode == 0, first.stderr
    venv = door.folder / ".venv"
    assert f"-m venv {venv}" in door.notes
    assert f"-m uv pip install --python {venv}/bin/python -c requirements.lock -e .[dev]" in door.notes
    assert not any("-r requirements.lock" in note for note in door.notes)
    second = door.run("bench")
    assert (second.returncode, door.makes) == (0, [])


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_the_environment_is_remade_when_what_it_is_made_from_changes(door, name):
    door.run("bench")
    leftover = door.folder / ".venv" / "leftover"
    leftover.touch()
    with open(door.folder / name, "a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    assert door.run("bench").returncode == 0
    assert len(door.makes) == 3
    assert not leftover.exists()


def test_the_environment_is_remade_for_another_python_and_where_the_project_was_moved(door):
    door.run("bench")
    door.run("bench", VERSION="3.13.0")
    assert len(door.makes) == 3
    door.folder = door.folder.rename(door.folder.parent / "elsewhere")
    door.run("bench", VERSION="3.13.0")
    assert len(door.makes) == 3


def test_an_interrupted_making_is_begun_again_and_never_taken_for_whole(door):
    """Also while the installer of a `./run` that was killed alone is still at work."""
    for number, send in [(signal.SIGINT, os.killpg), (signal.SIGKILL, os.killpg), (signal.SIGKILL, os.kill)]:
        door.notes_file.write_text("", encoding="utf-8")
        process = door.start("bench", UV_SLEEPS="30")
        deadline = time.monotonic() + 20
        while not any(note.startswith("links=") for note in door.notes):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "another ./run is making .venv" in door.start("bench").communicate(timeout=20)[1]
        send(process.pid, number)
        process.wait(timeout=20)
        if send is os.kill:
            assert "another ./run is making .venv" in door.start("bench").communicate(timeout=20)[1]
            os.killpg(process.pid, number)
        (door.folder / ".venv" / "half").touch()
    assert door.run("bench").returncode == 0
    assert len(door.makes) == 3
    assert not (door.folder / ".venv" / "half").exists()


def test_an_environment_that_somebody_else_made_is_completed_not_deleted(door):
    mine = door.folder / ".venv" / "bin"
    mine.mkdir(parents=True)
    shutil.copy(door.python, mine / "python")
    (mine / "my-tool").touch()
    assert door.run("bench").returncode == 0
    assert [step.split()[1] for step in door.makes] == ["pip", "uv"]
    assert (mine / "my-tool").exists()


def test_pip_takes_over_where_uv_cannot(door):
    result = door.run("bench", UV_FAILS="1")
    assert (result.returncode, "trying pip" in result.stderr) == (0, True)
    assert "-m pip install --disable-pip-version-check -c requirements.lock -e .[dev]" in door.notes


def test_uv_is_told_of_local_wheels_and_else_chooses_the_build_of_torch(door):
    door.run("bench", PIP_FIND_LINKS="/a /b")
    assert "links=/a,/b torch=" in door.notes
    (door.folder / "requirements.lock").touch()
    (door.folder / ".venv" / "made-by-run").unlink()
    door.run("bench")
    assert "links= torch=auto" in door.notes
    (door.folder / ".venv" / "made-by-run").unlink()
    door.run("bench", UV_TORCH_BACKEND="cu130")
    assert "links= torch=cu130" in door.notes


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0", "2.7.18"])
def test_another_python_is_refused_in_a_sentence(door, version):
    result = door.run("test", VERSION=version)
    assert result.returncode == 2
    assert f"needs Python 3.11, 3.12 or 3.13; python3 is Python {version}." in result.stderr
    assert not (door.folder / ".venv").exists()


def test_a_python_can_be_named_and_is_then_the_only_one_tried(door):
    result = door.run("test", PYTHON="/no/such/python")
    assert "needs Python 3.11, 3.12 or 3.13; PYTHON=/no/such/python is" in result.stderr
    assert door.run("test", PYTHON=str(door.python)).returncode == 0


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_where_debian_leaves_venv_out_the_package_is_named(door, module):
    result = door.run("test", LACKS=module)
    assert (result.returncode, "sudo apt-get install python3-venv" in result.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["help"], [], ["--help"]])
def test_help_needs_no_environment_and_names_every_verb(door, arguments):
    result = door.run(*arguments, VERSION="2.7.18")
    assert result.returncode == 0
    for verb in ("figures", "test", "lab", "lint", "bench", "help"):
        assert f"./run {verb}" in result.stdout


def test_an_unknown_verb_is_refused_with_the_known_ones(door):
    result = door.run("figure")
    assert result.returncode == 2
    assert "expected figures, test, lab, lint, bench or help; got 'figure'" in result.stderr


def test_each_verb_hands_its_arguments_on_from_any_folder(door):
    elsewhere = door.folder.parent / "else where"
    elsewhere.mkdir()
    expected = {
        "figures": ("-P -m study_lib figures", elsewhere),
        "test": ("-m pytest", door.folder),
        "lab": ("-m jupyter lab", door.folder),
        "bench": ("-m benchmarks", door.folder),
    }
    for verb, (command, folder) in expected.items():
        assert door.run(verb, "--option", "a b", cwd=elsewhere).returncode == 0
        assert [line for line in door.notes if line.startswith(command) and line.endswith("--option a b")]
        assert door.notes[-1] == f"in {folder}"


@pytest.mark.slow
def test_a_newcomer_with_an_empty_home_gets_a_working_environment_from_one_command(tmp_path):
    project = tmp_path / "a clone"
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(command, capture_output=True, text=True)
    if names.returncode:
        pytest.skip("not a git checkout, so it is not known which files belong to the project")
    for name in filter(None, names.stdout.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, project / name)
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_", "PATH"))}
    result = subprocess.run(
        [project / "run", "test", "tests/test_run.py"],
        env=kept | {"HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert (project / ".venv" / "made-by-run").is_file()
