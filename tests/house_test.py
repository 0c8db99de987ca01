"""The plan of the house: imports go down, never up; importing touches no device."""

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_PACKAGE = _ROOT / "gesture_jax"

# Floor by floor, as in design.md; a package stands for all its modules.
FLOORS = [
    {
        "errors", "array_types", "cache", "buckets", "files", "step_folders", "manifest", "endings",
    },
    {
        "ops", "diffusion", "processes", "sharding", "optim", "presets", "writer", "watch", "cli",
        "config_check", "configs", "pickles", "hardware", "fingerprints", "programs",
    },
    {"models"},
    {
        "data", "metrics", "losses", "checkpoints", "pretrained",
        "torch_names", "torch_checkpoint", "torch_weights", "safetensors", "wavlm_weights",
        "array_pickle", "dlib_weights", "packed", "bundled",
    },
    {
        "evaluation", "stage1", "stage2", "animator", "explain", "generator", "stream", "long_form",
        "control", "donor", "portraits", "extraction", "motion_model",
    },
    {"train_lib", "jobs"},
    {"page"},
    {
        "train", "prepare", "extract", "generate", "animate", "evaluate", "convert", "pack", "app",
        "__main__",
    },
]  # fmt: skip
# The package's front page loads its classes by name on first use.
_FRONT_PAGE = {"__init__"}


def _floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if module in rooms:
            return number
    raise AssertionError(f"{module} stands on no floor: give it one in {__file__}")


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


@pytest.mark.parametrize("path", sorted(_PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_go_down(path):
    room = path.relative_to(_PACKAGE).parts[0].removesuffix(".py")
    if room in _FRONT_PAGE:
        return
    for imported in _imported_rooms(path):
        assert imported == room or _floor(imported) <= _floor(room), f"{room} imports {imported}"


# What opens a path as one of this machine, and who does so for all: users give buckets too.
_OPENS = {"open", "Path", "os.replace", "os.rename", "os.remove", "os.makedirs", "os.listdir"}
_OPENERS = {"files.py", "buckets.py", "cache.py"}


def _opens(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func).removeprefix("pathlib.")
    return called in _OPENS or called.split(".")[0] in {"shutil", "tempfile"}


@pytest.mark.parametrize("path", sorted(_PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
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
        "import sys; from gesture_jax import generator, jobs, portraits; "
        "heavy = {'tensorflow_datasets', 'grain', 'optax', 'matplotlib', 'orbax.checkpoint.v1', "
        "'numba', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    _run(program)
