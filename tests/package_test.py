"""The wheel contains the whole package and works without the repository; the API is typed."""

import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

from gesture_jax.__main__ import COMMANDS
from tests import house_test

_ROOT = pathlib.Path(__file__).parents[1]


def _run(*command, cwd=_ROOT):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    done = _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, _ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Installs the wheel into a new environment that uses the dependencies of this one."""
    place = tmp_path_factory.mktemp("elsewhere") / "venv"
    _run(sys.executable, "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    done = _run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel
    )
    assert done.returncode == 0, done.stderr
    (library,) = (place / "lib").glob("python3*/site-packages")
    # Python does not read the .pth files of these folders, which would add this checkout.
    borrowed = [path for path in sys.path if path.endswith("-packages")]
    (library / "borrowed.pth").write_text("\n".join(borrowed))
    return place


def test_the_wheel_contains_the_package_and_nothing_else(wheel):
    tracked = _run("git", "ls-files", "gesture_jax").stdout.split("\n")[:-1]
    if not tracked:
        pytest.skip("not a git checkout")
    tracked += [f"gesture_jax/{path}" for path in _run("git", "ls-files", "configs").stdout.split()]
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(tracked)
    assert {"gesture_jax/py.typed", "gesture_jax/configs/stage1.py"} <= set(names)


def test_presets_and_data_preparation_work_without_the_repository(installed, tmp_path):
    command = installed / "bin" / "gesture-jax"
    made = _run(
        command, "prepare", "--procedural=2", "--num_identities=1", "--clip_sec=1", "--size=16",
        "--num_workers=0", f"--out={tmp_path}/drawn", cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0 and (tmp_path / "drawn" / "preparation.json").is_file(), made.stderr
    train = [command, "train", "--config=configs/stage2.py:smoke", f"--workdir={tmp_path}/new"]
    refused = _run(*train, "--config.num_steps=0", cwd=tmp_path)
    notice, error = refused.stderr.splitlines()
    assert notice.startswith("configs/stage2.py: not in this folder; ")
    assert refused.returncode == 2 and error.startswith("error: num_steps is 0")


def test_help_imports_no_heavy_library(installed, tmp_path):
    """Help takes a tenth of a second (benchmarks/README.md)."""
    program = "import sys; from gesture_jax.__main__ import main; sys.argv[1:] = {}\n"
    program += "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
    program += "heavy = {{'jax', 'flax', 'librosa', 'numpy', 'av', 'grain'}} & set(sys.modules)\n"
    program += "assert not heavy, heavy"
    for arguments in (["--help"], *([command, "--help"] for command in COMMANDS)):
        python = installed / "bin" / "python"
        done = _run(python, "-c", program.format(arguments), cwd=tmp_path)
        assert done.returncode == 0, (arguments, done.stderr)
        assert "--out" in done.stdout or "--workdir" in done.stdout or "COMMAND" in done.stdout
        assert str(installed) in done.stdout or arguments == [
            "--help"
        ]  # Rather than this checkout.


def test_each_command_is_a_subcommand_of_gesture_jax():
    files = {path.stem for path in (_ROOT / "gesture_jax").glob("*.py")}
    assert set(COMMANDS) == files - {"__init__", "__main__", *house_test.ROOMS}


def test_unknown_commands_get_one_sentence():
    done = _run(sys.executable, "-m", "gesture_jax", "fly\n")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: unknown command fly")
    version = _run(sys.executable, "-m", "gesture_jax", "--version").stdout
    assert re.fullmatch(r"gesture_jax \d+\.\d+\.\d+\n", version)


def test_the_public_api_is_typed():
    done = _run(sys.executable, "-m", "mypy")
    assert done.returncode == 0, done.stdout
