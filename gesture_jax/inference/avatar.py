"""An avatar: one person ready to talk, in one file that replaces portrait and weights.

`gesture_jax.personalize` makes it. The file (.avatar, in the format of safetensors) holds both
stages, pictures of the person, the rig of the first picture if the person can be a puppet, and a
note of who consented and when. `--avatar=FILE` stands for `--image`, `--stage1` and `--stage2`.
"""

import dataclasses
import io
import json
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gesture_jax.checkpoint import packed
from gesture_jax.errors import InputError

if TYPE_CHECKING:  # It needs OpenCV, which avatars without a rig do not.
    from gesture_jax.puppets.rig import Rig

_VERSION = 1
_ENTRY, _PICTURE, _RIG = "avatar", "avatar/picture", "avatar/rig/"
_MAX_PICTURES, _MAX_SIDE, _MAX_BYTES = 16, 4096, 32 << 20
_JPEG_QUALITY = 97


@dataclasses.dataclass(frozen=True)
class Consent:
    """The consent of the person who is shown.

    Attributes:
      person: name of the person who is shown.
      confirmed_by: the user who confirmed the consent, by --i_have_consent.
      time: when, as in "2026-12-01T09:30:00+00:00".
    """

    person: str
    confirmed_by: str
    time: str


@dataclasses.dataclass(frozen=True)
class Avatar:
    """The person of an avatar; its stages are loaded from the file as from any packed file.

    Attributes:
      pictures: squares of the person, [s, s, 3] uint8; the first is the portrait.
      consent: who consented.
      rig: the rig of the portrait, or None where the person cannot be a puppet.
      still: the reason why the arms of the rig do not move, "" where they do.
    """

    pictures: tuple[np.ndarray, ...]
    consent: Consent
    rig: "Rig | None" = None
    still: str = ""

    @property
    def portrait(self) -> np.ndarray:
        """The picture that is animated, [s, s, 3] uint8."""
        return self.pictures[0]


def write(
    path: str | os.PathLike,
    avatar: Avatar,
    *,
    stage1: str | os.PathLike,
    stage2: str | os.PathLike,
) -> None:
    """Writes an avatar.

    Args:
      path: of the file, which ends in .avatar.
      avatar: the person.
      stage1: the packed file of stage 1.
      stage2: that of stage 2.

    Raises:
      InputError: for another ending, or where a file cannot be read or written.
    """
    check_path(path)
    arrays: dict[str, np.ndarray] = {}
    metadata = {}
    for stage, file in (("stage1", stage1), ("stage2", stage2)):
        metadata[f"{stage}/config"] = packed.read_config(file, stage)
        metadata[f"{stage}/step"] = str(packed.read_step(file, stage))
        with packed.reading(file, stage) as weights:
            arrays |= {f"{stage}/{name}": np.array(array) for name, array in weights.items()}
    for number, picture in enumerate(avatar.pictures):
        arrays[f"{_PICTURE}{number}"] = _encode(picture)
    if avatar.rig is not None:
        from gesture_jax.puppets.rig import pack_rig

        arrays |= {f"{_RIG}{name}": array for name, array in pack_rig(avatar.rig).items()}
    note = {
        "version": _VERSION,
        "num_pictures": len(avatar.pictures),
        "still": avatar.still,
        "consent": dataclasses.asdict(avatar.consent),
    }
    packed.write_entries(path, arrays, {**metadata, _ENTRY: json.dumps(note)})


def check_path(path: str | os.PathLike) -> None:
    """Raises InputError where a path does not end in .avatar."""
    if not packed.is_avatar(path):
        raise InputError(f"{path}: give the avatar a name that ends in {packed.AVATAR_ENDING}")


def read(path: str | os.PathLike) -> Avatar:
    """Reads the person of an avatar, which may be from an untrusted source.

    Raises:
      InputError: where it is not an avatar, or a damaged one.
    """
    check_path(path)
    note = _parse(packed.read_entry(path, _ENTRY), path)
    with packed.reading(path) as arrays:
        count = note["num_pictures"]
        try:
            pictures = tuple(_decode(arrays[f"{_PICTURE}{k}"]) for k in range(count))
        except Exception as error:  # Hostile bytes can fail in many ways; none is a bug here.
            raise InputError(f"{path}: a picture of the avatar is damaged; make it anew") from error
        rig_arrays = {
            name.removeprefix(_RIG): array
            for name, array in arrays.items()
            if name.startswith(_RIG)
        }
    rig = None
    if rig_arrays:
        from gesture_jax import puppets

        puppets.check_installed()
        from gesture_jax.puppets.rig import unpack_rig

        rig = unpack_rig(rig_arrays, name=path)
    return Avatar(pictures, Consent(**note["consent"]), rig, note["still"])


def _parse(text: str, path: str | os.PathLike) -> Mapping:
    """Parses and checks the note of an avatar."""
    wanted = {field.name for field in dataclasses.fields(Consent)}
    try:
        note = json.loads(text)
        sound = (
            note["version"] == _VERSION
            and type(note["num_pictures"]) is int
            and 1 <= note["num_pictures"] <= _MAX_PICTURES
            and isinstance(note["still"], str)
            and note["still"].isprintable()
            and note["consent"].keys() == wanted
            and all(isinstance(value, str) for value in note["consent"].values())
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise InputError(f"{path}: not an avatar of this version, or a damaged one; make it anew")
    return note


def _encode(picture: np.ndarray) -> np.ndarray:
    """Encodes a picture as the bytes of a JPEG, [n] uint8."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
    return np.frombuffer(file.getvalue(), np.uint8)


def _decode(content: np.ndarray) -> np.ndarray:
    """Decodes a square JPEG of limited size; raises any error where it is none."""
    if content.dtype != np.uint8 or content.ndim != 1 or len(content) > _MAX_BYTES:
        raise ValueError("no picture")
    with (
        warnings.catch_warnings(action="ignore"),  # Pillow warns of oddities that do not matter.
        Image.open(io.BytesIO(content.tobytes()), formats=["JPEG"]) as image,
    ):
        if image.width != image.height or image.width > _MAX_SIDE:
            raise ValueError(f"a picture of {image.width}x{image.height} pixels")
        return np.asarray(image.convert("RGB"))
