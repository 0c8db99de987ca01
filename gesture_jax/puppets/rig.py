"""A rig, which is a portrait in layers with its joints, and its file.

Positions are in pixels of the working picture (`landmarks.SIDE`) for any resolution of the layers.
The file is an .npz without pickled objects; colours are stored as JPEG, alphas as PNG.
"""

import dataclasses
import io
import os

import cv2
import numpy as np
from PIL import Image

from gesture_jax.errors import InputError
from gesture_jax.puppets.landmarks import SIDE
from gesture_jax.storage import files, npz

ENDING = ".rig.npz"
_VERSION = 1
_MAX_SIDE = 1024
_MAX_BYTES = 4 << 20
_MAX_FILE_BYTES = 16 << 20
_JPEG_QUALITY = 95
_NUM_FACE, _NUM_POSE, _NUM_HAND = 478, 33, 21
_MAX_POSITION_PX = 4096.0
# Landmarks of the face mesh.
_FOREHEAD, _CHIN, _CHEEKS = 10, 152, (234, 454)
_SHOULDERS = 12, 11
_MIN_FACE_PX, _MIN_BONE_PX, _MIN_ALPHA = 8, 1, 64
_LAYERS = ("body", *(f"{part}{side}" for part in ("forearm", "hand") for side in (0, 1)))
_NAMES = {
    *("version", "side", "face", "pose", "background"),
    *(f"{name}{side}" for name in ("arm", "points") for side in (0, 1)),
    *(f"{layer}_{part}" for layer in _LAYERS for part in ("colours", "alpha", "corner")),
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A piece of the picture.

    Attributes:
      colours: [h, w, 3] uint8, also filled in where alpha is 0.
      alpha: [h, w] uint8.
      corner: its left and top in the whole picture, in pixels of the layers.
    """

    colours: np.ndarray
    alpha: np.ndarray
    corner: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ArmRig:
    """A forearm and a hand.

    Attributes:
      forearm: layer of the forearm.
      hand: layer of the hand.
      shoulder: [2].
      elbow: [2].
      points: [21, 2], landmarks of the hand; the first is the wrist.
      size: size of the hand.
      radii: [3], radii of elbow, wrist and upper arm.
      outward: whether the fingers point away from the body.
    """

    forearm: Layer
    hand: Layer
    shoulder: np.ndarray
    elbow: np.ndarray
    points: np.ndarray
    size: float
    radii: np.ndarray
    outward: bool

    @property
    def wrist(self) -> np.ndarray:
        return self.points[0]


@dataclasses.dataclass(frozen=True)
class Rig:
    """A person that can be moved.

    Attributes:
      side: side of the whole picture, in pixels of the layers.
      background: [side, side, 3] uint8, filled in behind the person.
      body: the person without the arms.
      arms: the arms on the viewer's left and right; empty where they are part of the body.
      face: [478, 3], the face mesh: x, y and depth.
      pose: [33, 2], the pose model's landmarks.
    """

    side: int
    background: np.ndarray
    body: Layer
    arms: tuple[ArmRig, ...]
    face: np.ndarray
    pose: np.ndarray


def save_rig(path: str | os.PathLike, rig: Rig) -> None:
    """Writes the file of a rig."""
    with files.write_beside(path) as beside, beside.open("wb") as file:
        np.savez(file, **pack_rig(rig))


def pack_rig(rig: Rig) -> dict[str, np.ndarray]:
    """Returns the arrays of a rig's file."""
    arrays: dict[str, np.ndarray] = {
        "version": np.array(_VERSION),
        "side": np.array(rig.side),
        "face": rig.face.astype(np.float32),
        "pose": rig.pose.astype(np.float32),
        "background": _encode(rig.background, ".jpg"),
        **_pack_layer("body", rig.body),
    }
    for side, arm in enumerate(rig.arms):
        arrays |= _pack_layer(f"forearm{side}", arm.forearm)
        arrays |= _pack_layer(f"hand{side}", arm.hand)
        numbers = [*arm.shoulder, *arm.elbow, *arm.radii, arm.size, float(arm.outward)]
        arrays[f"arm{side}"] = np.array(numbers, np.float32)
        arrays[f"points{side}"] = arm.points.astype(np.float32)
    return arrays


def load_rig(path: str | os.PathLike) -> Rig:
    """Reads the file of a rig, which may be from an untrusted source.

    Raises:
      InputError: where it is not a rig, or a damaged one.
    """
    if not files.is_file(path) or files.size_of(files.as_path(path)) > _MAX_FILE_BYTES:
        raise InputError(f"{path}: not the file of a rig")
    return unpack_rig(
        dict(npz.iterate(path, names=_NAMES, max_bytes=_MAX_BYTES, wanted="a rig")), name=path
    )


def unpack_rig(arrays: dict[str, np.ndarray], *, name: str | os.PathLike) -> Rig:
    """Inverts `pack_rig`, for arrays that may be from an untrusted source.

    Raises:
      InputError: where they are not those of a rig; the message begins with the name.
    """
    try:
        return _unpack(arrays)
    except InputError as error:
        raise InputError(f"{name}: {error}; build the rig again") from error
    except Exception as error:  # Hostile bytes can fail in many ways, none of which is a bug here.
        raise InputError(f"{name}: not a rig, or a damaged one; build the rig again") from error


def _unpack(arrays: dict[str, np.ndarray]) -> Rig:
    if int(arrays["version"]) != _VERSION:
        raise InputError(f"a rig of version {int(arrays['version'])} instead of {_VERSION}")
    side = int(arrays["side"])
    if not 64 <= side <= _MAX_SIDE:
        raise InputError(f"a rig with a side of {side} pixels")
    background = _decode(arrays["background"], cv2.IMREAD_COLOR, side)
    if background.shape != (side, side, 3):
        raise InputError(f"a background of {background.shape[1]}x{background.shape[0]} pixels")
    rig = Rig(
        side=side,
        background=background,
        body=_unpack_layer(arrays, "body", side),
        arms=tuple(_unpack_arm(arrays, k, side) for k in (0, 1)) if "arm0" in arrays else (),
        face=_positions(arrays["face"], (_NUM_FACE, 3)),
        pose=_positions(arrays["pose"], (_NUM_POSE, 2)),
    )
    _check_body(rig)
    return rig


def _check_body(rig: Rig) -> None:
    """Raises InputError where the positions cannot be those of a person."""
    face = rig.face[:, :2]
    height = face[_CHIN, 1] - face[_FOREHEAD, 1]
    width = face[_CHEEKS[1], 0] - face[_CHEEKS[0], 0]
    middle = face.mean(axis=0)
    inside = middle.min() >= 0 and middle.max() < SIDE
    if min(height, width) < _MIN_FACE_PX or not inside or np.ptp(face, axis=0).max() > SIDE:
        raise InputError("a face of impossible size or position")
    bones = [(rig.pose[_SHOULDERS[0]], rig.pose[_SHOULDERS[1]])]
    for arm in rig.arms:
        bones += [(arm.shoulder, arm.elbow), (arm.elbow, arm.wrist)]
    if min(float(np.linalg.norm(end - start)) for start, end in bones) < _MIN_BONE_PX:
        raise InputError("a bone without length")


def _unpack_arm(arrays: dict[str, np.ndarray], number: int, side: int) -> ArmRig:
    numbers = _positions(arrays[f"arm{number}"], (9,))
    if min(numbers[4:8]) <= 0:
        raise InputError("an arm without thickness")
    return ArmRig(
        forearm=_unpack_layer(arrays, f"forearm{number}", side),
        hand=_unpack_layer(arrays, f"hand{number}", side),
        shoulder=numbers[0:2],
        elbow=numbers[2:4],
        points=_positions(arrays[f"points{number}"], (_NUM_HAND, 2)),
        size=float(numbers[7]),
        radii=numbers[4:7],
        outward=bool(numbers[8] > 0.5),
    )


def _positions(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape != shape or array.dtype.kind != "f":
        raise InputError(f"positions of shape {array.shape}, instead of {shape}")
    if not (np.abs(array) < _MAX_POSITION_PX).all():
        raise InputError("positions that are far outside of the picture")
    return array.astype(np.float64)


def _pack_layer(name: str, layer: Layer) -> dict[str, np.ndarray]:
    return {
        f"{name}_colours": _encode(layer.colours, ".jpg"),
        f"{name}_alpha": _encode(layer.alpha, ".png"),
        f"{name}_corner": np.array(layer.corner, np.int32),
    }


def _unpack_layer(arrays: dict[str, np.ndarray], name: str, side: int) -> Layer:
    colours = _decode(arrays[f"{name}_colours"], cv2.IMREAD_COLOR, side)
    alpha = _decode(arrays[f"{name}_alpha"], cv2.IMREAD_GRAYSCALE, side)
    left, top = (int(number) for number in arrays[f"{name}_corner"])
    height, width = alpha.shape
    inside = 0 <= left <= side - width and 0 <= top <= side - height
    if colours.shape != (height, width, 3) or not inside or alpha.max() < _MIN_ALPHA:
        raise InputError(f"a layer {name} that does not fit")
    return Layer(colours, alpha, (left, top))


def _encode(picture: np.ndarray, ending: str) -> np.ndarray:
    """Encodes a picture, RGB or grey, as the bytes of a file, [n] uint8."""
    if picture.ndim == 3:
        picture = np.ascontiguousarray(picture[..., ::-1])
    options = []
    if ending == ".jpg":
        options += [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(ending, picture, options)[1].ravel()


def _decode(content: np.ndarray, mode: int, side: int) -> np.ndarray:
    """Decodes a picture, [h, w, 3] RGB or [h, w] uint8, no larger than `side`."""
    if content.dtype != np.uint8 or content.ndim != 1:
        raise InputError("a layer that is no picture")
    if max(_read_size(content.tobytes())) > side:
        raise InputError("a layer that is larger than its picture")
    picture = cv2.imdecode(content, mode)
    if picture is None:
        raise InputError("a layer that is no picture")
    return np.ascontiguousarray(picture[..., ::-1]) if picture.ndim == 3 else picture


def _read_size(content: bytes) -> tuple[int, int]:
    """Reads width and height from the header of a JPEG or PNG."""
    with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
        return image.size
