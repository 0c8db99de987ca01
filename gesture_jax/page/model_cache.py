"""The trained models that the page offers, and those of them that are loaded."""

import collections
import dataclasses
import os
import threading
from collections.abc import Sequence

from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints, packed
from gesture_jax.errors import InputError
from gesture_jax.inference import bundled
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.generator import GestureGenerator
from gesture_jax.storage.files import as_path, find_files, is_folder

# The least recently used model is dropped when more are loaded.
_MAX_LOADED = 2


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """A pair of workdirs with a name.

    Attributes:
      name: shown to visitors.
      stage1: workdir of the trained stage 1.
      stage2: workdir of the stage 2 that was trained on it; None for driving videos only.
    """

    name: str
    stage1: str
    stage2: str | None = None


def find_models(folder: str | os.PathLike) -> list[NamedModel]:
    """Finds the models below a folder of workdirs, those with a stage 2 first.

    Where a stage 1 has moved, a folder of its name is searched beside the stage 2.

    Raises:
      InputError: where there is no such folder, or no model in it.
    """
    folder = as_path(folder)
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder; give one with workdirs of training runs in it")
    found = {"stage1": [], "stage2": []}
    for path in find_files(folder):
        if path.name == "config.json" and (path.parent / "checkpoints").is_dir():
            for stage, workdirs in found.items():
                try:
                    workdirs.append(
                        (path.parent, checkpoints.read_config(path.parent, stage=stage))
                    )
                except InputError:
                    continue
    name = lambda workdir: str(workdir.relative_to(folder)) if workdir != folder else workdir.name
    pairs = [(workdir, _stage1_of(workdir, config)) for workdir, config in found["stage2"]]
    models = [NamedModel(name(two), one, str(two)) for two, one in pairs if one]
    taken = {os.path.realpath(model.stage1) for model in models}
    for workdir, _ in found["stage1"]:
        if os.path.realpath(workdir) not in taken:
            models.append(NamedModel(f"{name(workdir)} (by videos only)", str(workdir)))
    if not models:
        raise InputError(f"{folder}: no trained model in it; train both stages first")
    return models


def bundled_models() -> list[NamedModel]:
    """The models that come with the package."""
    names = {"photo": "photographs (photo)", "demo": "drawn people (demo)"}
    return [NamedModel(names[preset], **bundled.find(preset)) for preset in bundled.PRESETS]


def _stage1_of(workdir, config: ConfigDict) -> str | None:
    named = as_path(config.stage1_workdir)
    for found in (named, workdir.parent / named.name):
        if (found / "checkpoints").is_dir():
            return str(found)
    return None


class ModelCache:
    """Models by name, loaded on first use; the name of an avatar is its path."""

    def __init__(self, models: Sequence[NamedModel]):
        """Takes the models to choose from, which have different names."""
        self.models = {model.name: model for model in models}
        self._animators: collections.OrderedDict[str, Animator] = collections.OrderedDict()
        self._generators: dict[str, GestureGenerator] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """All names, in order."""
        return list(self.models)

    def config(self, name: str) -> ConfigDict | None:
        """The config of a model's stage 2, if it has one."""
        model = self.models.get(name)
        if model is None or model.stage2 is None:
            return None
        return checkpoints.read_config(model.stage2, stage="stage2")

    def animator(self, name: str) -> Animator:
        """The stage 1 of a model.

        Raises:
          InputError: where the model is unknown or cannot be loaded.
        """
        with self._lock:
            return self._load_animator(name)

    def generator(self, name: str) -> GestureGenerator:
        """Both stages of a model.

        Raises:
          InputError: where the model is unknown, cannot be loaded, or has no stage 2.
        """
        with self._lock:
            animator = self._load_animator(name)
            stage2 = self._find(name).stage2
            if stage2 is None:
                raise InputError(
                    "this model knows no speech; choose another one, or animate with a video"
                )
            if name not in self._generators:
                self._generators[name] = GestureGenerator.load(stage1=animator, stage2=stage2)
            return self._generators[name]

    def _find(self, name: str) -> NamedModel:
        if packed.is_avatar(name):
            return NamedModel(name, name, name)
        if name not in self.models:
            raise InputError("no such model; choose one from the list")
        return self.models[name]

    def _load_animator(self, name: str) -> Animator:
        stage1 = self._find(name).stage1
        if name not in self._animators:
            self._animators[name] = Animator.load(stage1)
        self._animators.move_to_end(name)
        while len(self._animators) > _MAX_LOADED:
            dropped, _ = self._animators.popitem(last=False)
            self._generators.pop(dropped, None)
        return self._animators[name]
