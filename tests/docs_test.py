"""The documentation: it builds without a warning, and every command in it is valid."""

import ast
import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests import commands_test, house_test, in_process

_ROOT = pathlib.Path(__file__).parents[1]
_PAGES = [
    *sorted((_ROOT / "docs").glob("*.md")),
    *(_ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(_ROOT / name / "README.md" for name in ("launch", "benchmarks")),
]
# Programs that cannot be run here.
_FOREIGN = {"pip", "docker", "gcloud"}


def _commands(page):
    """Returns the shell commands of a page without their comments, those inside lists included."""
    blocks = re.findall(r"^( *)```bash\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.strip() for _, block in blocks for line in block.splitlines()]
    return [line.split("   #")[0].rstrip() for line in lines]


def _new_commands():
    """Returns the commands that `commands_test` does not run, with page and line as their ids."""
    known = {line for block in commands_test.readme("bash") for line in block.splitlines()}
    return [
        pytest.param(line, id=f"{page.relative_to(_ROOT)}: {line[:60]}")
        for page in _PAGES
        for line in _commands(page)
        if commands_test.shrink(line) not in known
    ]


@pytest.mark.parametrize("command", _new_commands())
def test_commands_of_the_documentation_are_valid(command, tmp_path, monkeypatch):
    """All flags and config keys exist, and their values are possible."""
    monkeypatch.chdir(tmp_path)
    # Shell variables and names in capitals are placeholders.
    words = shlex.split(command.replace(" ...", ""))
    match words:
        case ["python", "-m", module, *arguments] if module.startswith("gesture_jax."):
            in_process.parse(module.removeprefix("gesture_jax."), *arguments)
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module)
        case ["python", "-c", program]:
            ast.parse(program)
        case [script, *arguments] if script.startswith("launch/"):
            _check_launch(script, arguments)
        case ["make", target]:
            assert re.search(rf"^{target}:", (_ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["docker", "run", *options]:
            image = next(n for n, word in enumerate(options) if word.startswith("gesture_jax:"))
            in_process.parse(*options[image + 1 :])
        case [name, *_]:
            assert name in _FOREIGN or re.match(r"\w+=", name), command


def _check_launch(script, arguments):
    assert (_ROOT / script).is_file()
    if "--" not in arguments:
        return
    flags = arguments[arguments.index("--") + 1 :]
    in_process.parse("train", *flags, *([] if "--workdir" in " ".join(flags) else ["--workdir=x"]))
    shown = subprocess.run(
        [script, *arguments[: arguments.index("--")], "--dry_run", "--", *flags],
        cwd=_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr


def test_the_readme_lists_the_rooms_from_top_to_bottom():
    text = (_ROOT / "README.md").read_text().partition("## How the code is laid out")[2]
    table = text.partition("Outside the package")[0]
    first_cells = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
    names = re.findall(r"`(\w+)(?:/|\.py)`", " ".join(first_cells))
    known = [name for name in names if name in house_test.ROOMS]
    # Modules without a folder share a row.
    folders = [name for name in known if (_ROOT / "gesture_jax" / name).is_dir()]
    assert sorted(known) == sorted(house_test.ROOMS)
    assert folders == [room for room in reversed(house_test.ROOMS) if room in folders]


def test_documentation_builds_without_warnings_and_has_all_pages_in_its_menu(tmp_path):
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={site}"],
        cwd=_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {path.stem for path in (_ROOT / "docs").glob("*.md")}
    assert pages | {"404"} == {path.stem for path in site.glob("*.html")}
    text = (site / "commands.html").read_text()
    assert "--motion_scale" in text and str(_ROOT) not in text
    assert "extract_motion" in (site / "python.html").read_text()
    # The pages include the config files.
    assert "feature_matching" in (site / "configs.html").read_text()
