"""The plan of the house: imports go down, never up; importing touches no device."""

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_PACKAGE = _ROOT / "gesture_jax"

# From the ground up: a room imports those above it in this list, never those below it.
ROOMS = [
    "errors", "array_types", "renamed_keys",
    "presets", "storage", "ops", "diffusion", "parallel", "cli", "models",
    "pretrained", "media", "people", "data", "checkpoint", "speech", "procedural", "preparation",
    "metrics", "inference", "training", "evaluation", "page",
]  # fmt: skip


def _height(room: str) -> int:
    """A room's place in `ROOMS`; a command stands above them all."""
    if (_PACKAGE / room).is_dir():
        assert room in ROOMS, f"{room} is a new room: give it a place in {__file__}"
    return ROOMS.index(room) if room in ROOMS else len(ROOMS)


def _imported_rooms(path: pathlib.Path) -> set[str]:
    """The rooms of gesture_jax that a file imports, at its top or inside a function."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            first, *rest = node.module.split(".")
            if first == "gesture_jax":
                rooms |= {rest[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first, *rest = alias.name.split(".")
                if first == "gesture_jax" and rest:
                    rooms.add(rest[0])
    return rooms


def _name(path: pathlib.Path) -> str:
    return str(path.relative_to(_PACKAGE))


@pytest.mark.parametrize("path", sorted(_PACKAGE.rglob("*.py")), ids=_name)
def test_imports_go_down(path):
    room = path.relative_to(_PACKAGE).parts[0].removesuffix(".py")
    for imported in _imported_rooms(path):
        assert imported == room or _height(imported) < _height(room), f"{room} imports {imported}"


# What opens a path as one of this machine, and who does so for all: users give buckets too.
_OPENS = {"open", "Path", "os.replace", "os.rename", "os.remove", "os.makedirs", "os.listdir"}
_OPENERS = {"files.py", "buckets.py", "cache.py"}


def _opens(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func).removeprefix("pathlib.")
    return called in _OPENS or called.split(".")[0] in {"shutil", "tempfile"}


@pytest.mark.parametrize("path", sorted(_PACKAGE.rglob("*.py")), ids=_name)
def test_paths_are_opened_in_one_room(path):
    lines = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if _opens(node)]
    assert not lines or path.name in _OPENERS, f"{path.name}:{lines}: as_path, write_beside, ..."


def test_only_checkpoints_knows_orbax():
    users = {path.name for path in _PACKAGE.rglob("*.py") if "orbax" in path.read_text().lower()}
    assert users <= {"checkpoints.py"}


def _run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, cwd=_ROOT)


def test_importing_touches_no_device_and_no_heavy_library():
    program = (
        "import sys, gesture_jax; "
        "heavy = {'jax', 'tensorflow', 'torch', 'librosa'} & set(sys.modules); "
        "assert not heavy, heavy; assert 'Animator' in gesture_jax.__all__"
    )
    _run(program)


def test_generating_imports_nothing_of_training():
    """They took a third of the time of all imports."""
    program = (
        "import sys; from gesture_jax.inference import generator, pipeline, portraits; "
        "heavy = {'tensorflow_datasets', 'grain', 'optax', 'matplotlib', 'orbax.checkpoint.v1', "
        "'numba', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    _run(program)
