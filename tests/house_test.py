"""The layout of the package: imports go one way, and importing touches no device."""

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_PACKAGE = _ROOT / "gesture_jax"

# In the order of imports: a folder or module imports only those before it in this list.
ROOMS = [
    "errors", "array_types", "renamed_keys",
    "presets", "storage", "ops", "diffusion", "parallel", "cli", "models",
    "pretrained", "media", "people", "data", "checkpoint", "speech", "procedural", "puppets",
    "preparation", "metrics", "inference", "training", "evaluation", "page",
]  # fmt: skip


def _height(room: str) -> int:
    """Returns the position in `ROOMS`; a command comes after all of them."""
    if (_PACKAGE / room).is_dir():
        assert room in ROOMS, f"{room} is new: give it a position in {__file__}"
    return ROOMS.index(room) if room in ROOMS else len(ROOMS)


def _imported_rooms(path: pathlib.Path) -> set[str]:
    """Returns what a file imports of `ROOMS`, at its top or inside a function."""
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
def test_imports_go_one_way(path):
    room = path.relative_to(_PACKAGE).parts[0].removesuffix(".py")
    for imported in _imported_rooms(path):
        assert imported == room or _height(imported) < _height(room), f"{room} imports {imported}"


# Calls that only work with local paths, and the files that may make them: users also give
# paths in buckets.
_OPENS = {"open", "Path", "os.replace", "os.rename", "os.remove", "os.makedirs", "os.listdir"}


def _opens(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func).removeprefix("pathlib.")
    return called in _OPENS or called.split(".")[0] in {"shutil", "tempfile"}


@pytest.mark.parametrize("path", sorted(_PACKAGE.rglob("*.py")), ids=_name)
def test_paths_are_opened_by_storage_alone(path):
    lines = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if _opens(node)]
    opens_for_all = path.parent.name == "storage"
    assert not lines or opens_for_all, f"{path.name}:{lines}: as_path, write_beside, ..."


def test_only_checkpoints_imports_orbax():
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


def test_generating_imports_no_training_code():
    """Those libraries took a third of the time of all imports."""
    program = (
        "import sys; from gesture_jax.inference import generator, pipeline, portraits; "
        "heavy = {'tensorflow_datasets', 'grain', 'optax', 'matplotlib', 'orbax.checkpoint.v1', "
        "'numba', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    _run(program)
