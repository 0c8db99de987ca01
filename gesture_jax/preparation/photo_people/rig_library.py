"""Rigs on disk: finds those that exist, builds the others, and records unsuitable portraits."""

import concurrent.futures
import json
import os
import pathlib

from tqdm import tqdm

from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.preparation import parts
from gesture_jax.preparation.parts import LeftOut
from gesture_jax.puppets import rig
from gesture_jax.storage import files

_UNSUITABLE_ENDING = ".declined.json"
# With fewer portraits, starting workers, which takes seconds, does not pay.
_MIN_PORTRAITS_FOR_WORKERS = 4


def find_rigs(
    portraits: str | os.PathLike,
    rigs_dir: str | os.PathLike,
    *,
    num_workers: int | None = None,
) -> tuple[dict[str, pathlib.Path], list[LeftOut]]:
    """Finds the rigs of a folder of portraits, and builds the missing ones.

    Args:
      portraits: a folder of pictures, or of rigs, which are named after their files.
      rigs_dir: folder that keeps the rigs.
      num_workers: worker processes that build rigs; 0: this process, None: one per core if there
        are enough portraits.

    Returns:
      The rigs' files by the names of the portraits, and the portraits that are left out.

    Raises:
      InputError: where the folder holds nothing usable, two portraits have the same name, or rigs
        must be built and MediaPipe is not installed.
    """
    portraits, rigs_dir = files.absolute(portraits), files.absolute(rigs_dir)
    if not files.is_folder(portraits):
        raise InputError(f"{portraits}: no such folder; give one of pictures, or of rigs")
    found = files.find_files(portraits)
    ready = [path for path in found if path.name.endswith(rig.ENDING)]
    pictures = [path for path in found if path.suffix.lower() in images.ENDINGS]
    sources = _name_all(pictures or ready)
    if not sources:
        raise InputError(f"{portraits}: no pictures in it, nor rigs ({rig.ENDING})")
    unused = parts.leave_out_unused(found, sources.values(), portraits)
    if not pictures:
        return sources, unused
    missing = {
        name: path
        for name, path in sources.items()
        if not any(
            files.is_file(rigs_dir / f"{name}{end}") for end in (rig.ENDING, _UNSUITABLE_ENDING)
        )
    }
    left_out = _build_all(missing, rigs_dir, num_workers)
    rigs = {name: rigs_dir / f"{name}{rig.ENDING}" for name in sources}
    usable = {name: path for name, path in rigs.items() if files.is_file(path)}
    known = {entry.name for entry in left_out}
    left_out += [
        _read_unsuitable(rigs_dir, name)
        for name in sources
        if name not in usable and name not in known
    ]
    if not usable:
        raise InputError(
            f"{portraits}: no portrait can be used; {left_out[0].name}: {left_out[0].reason}"
        )
    return usable, [*left_out, *unused]


def _name_all(paths: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    named: dict[str, pathlib.Path] = {}
    for path in paths:
        name = path.name.removesuffix(rig.ENDING) if path.suffix == ".npz" else path.stem
        name = name.replace("#", "_")
        if name in named:
            raise InputError(f"{path}: another portrait has this name ({named[name]}); rename one")
        named[name] = path
    return named


def _build_all(
    missing: dict[str, pathlib.Path], rigs_dir: pathlib.Path, num_workers: int | None
) -> list[LeftOut]:
    """Builds rigs, and returns the pictures that cannot be read."""
    if not missing:
        return []
    if num_workers is None:
        num_workers = (os.cpu_count() or 1) if len(missing) >= _MIN_PORTRAITS_FOR_WORKERS else 0
    rigs_dir.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(missing), desc="rigs", unit="portrait") as bar:
        unreadable = []
        for done in _run_all(missing, rigs_dir, num_workers):
            bar.update()
            if done is not None:
                unreadable.append(done)
    return unreadable


def _run_all(missing, rigs_dir, num_workers):
    if not num_workers:
        for name, path in missing.items():
            yield _build(name, path, rigs_dir)
        return
    with parts.Pool(min(num_workers, len(missing))) as pool:
        running = [pool.submit(_build, name, path, rigs_dir) for name, path in missing.items()]
        for done in concurrent.futures.as_completed(running):
            yield done.result()


def _build(name: str, path: pathlib.Path, rigs_dir: pathlib.Path) -> LeftOut | None:
    """Writes the rig of a portrait, or the reason why there is none."""
    import cv2

    from gesture_jax.puppets import rig_builder

    cv2.setNumThreads(1)  # Portraits are processed in parallel already.
    try:
        picture = images.to_uint8(images.load_image(path))
    except InputError as error:
        return LeftOut(name, "cannot be read", str(error))
    try:
        built, _ = rig_builder.build_rig(picture)
    except rig_builder.UnsuitablePortraitError as error:
        note = {"reason": error.reason, "detail": error.detail}
        with files.write_beside(rigs_dir / f"{name}{_UNSUITABLE_ENDING}") as beside:
            beside.write_text(json.dumps(note))
        return None
    rig.save_rig(rigs_dir / f"{name}{rig.ENDING}", built)
    return None


def _read_unsuitable(rigs_dir: pathlib.Path, name: str) -> LeftOut:
    path = rigs_dir / f"{name}{_UNSUITABLE_ENDING}"
    try:
        note = json.loads(path.read_text())
        return LeftOut(name, str(note["reason"]), str(note["detail"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read; remove it") from error
