"""Pictures: any file or array in, squares for the networks and sheets for people out."""

import io
import os
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gesture_jax.errors import InputError
from gesture_jax.files import as_path, is_file, local_copy, size_of, write_beside

# Larger ones are decompression bombs, or scans that nobody needs as a portrait.
_MAX_PIXELS = 50_000_000
# Pillow knows more, of which some call other programs (EPS) and none is what portraits are kept in.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
_MAX_BYTES = 256 << 20
_GAP_PX = 2
_ROWS = 256


def load_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture, upright, transparency over white.

    Args:
      path: a file of one of `FORMATS`: any mode, 8 or 16 bits.

    Returns:
      [h, w, 3], uint8, or float32 in [0, 1] where the file has more than 8 bits.

    Raises:
      InputError: where it is missing, empty, not a picture, too large or damaged.
    """
    path = as_path(path)
    if not is_file(path):
        raise InputError(f"{path}: no such file; give a picture")
    if not size_of(path):
        raise InputError(f"{path}: is empty (0 bytes); give a picture")
    if size_of(path) > _MAX_BYTES:
        raise InputError(f"{path}: is too large a file for a picture; scale it down")
    try:
        # Pillow warns of oddities that do not matter here.
        with (
            warnings.catch_warnings(action="ignore"),
            # Of bytes, as Pillow asks files for as many as they claim to have.
            Image.open(io.BytesIO(local_copy(path).read_bytes()), formats=FORMATS) as image,
        ):
            if image.width * image.height > _MAX_PIXELS:
                raise InputError(
                    f"{path}: {image.width}x{image.height} pixels are too many; scale it down"
                )
            return to_rgb(_as_array(ImageOps.exif_transpose(image)))
    except InputError:
        raise
    except Exception as error:  # Hostile bytes fail in many ways; none of them is our defect.
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else "damaged"
        raise InputError(f"{path}: {reason}; give one of {', '.join(FORMATS)}") from error


def _as_array(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":  # 16-bit grey, as older Pillow opens it.
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    if image.mode == "F":
        return np.clip(np.asarray(image), 0.0, 1.0)
    transparent = "A" in image.mode or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Any picture array to RGB.

    Args:
      image: [h, w] or [h, w, c], c = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; uint8, uint16 or
        float in [0, 1].

    Returns:
      [h, w, 3]; uint8 for uint8, else float32 in [0, 1], nothing rounded.

    Raises:
      InputError: for other shapes, types and ranges.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 2, 3, 4) or 0 in image.shape:
        raise InputError(f"picture of shape {image.shape}; wanted is [h, w] or [h, w, 1 to 4]")
    if image.dtype == np.uint8 and image.shape[-1] in (1, 3):
        return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    # In strips, as floats take four times the memory.
    strips = range(0, len(image), _ROWS)
    return np.concatenate([_strip_to_rgb(image[top : top + _ROWS]) for top in strips])


def _strip_to_rgb(image: np.ndarray) -> np.ndarray:
    values = _unit_range(image)
    if image.shape[-1] in (2, 4):  # Over white.
        alpha = values[..., -1:]
        values = values[..., :-1] * alpha + (1.0 - alpha)
    values = np.ascontiguousarray(np.broadcast_to(values, (*image.shape[:2], 3)))
    return np.rint(values * 255.0).astype(np.uint8) if image.dtype == np.uint8 else values


def _unit_range(image: np.ndarray) -> np.ndarray:
    if image.dtype in (np.uint8, np.uint16):
        return image.astype(np.float32) / np.iinfo(image.dtype).max
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(
            f"picture of type {image.dtype}; wanted is uint8, uint16 or float in [0, 1]"
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-3 and high <= 1.0 + 1e-3):
        raise InputError(f"picture with values from {low:g} to {high:g}; floats lie in [0, 1]")
    return np.clip(image.astype(np.float32), 0.0, 1.0)


def square(image: np.ndarray, *, size: int) -> np.ndarray:
    """The central square of a picture, scaled with anti-aliasing.

    Args:
      image: [h, w, 3], uint8 or float32.
      size: side of the result in pixels.

    Returns:
      [size, size, 3] of the same type; the same values where nothing has to be scaled.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(image)
    if image.dtype == np.uint8:
        return np.asarray(_scaled(Image.fromarray(image), size))
    channels = [np.asarray(_scaled(Image.fromarray(c), size)) for c in np.moveaxis(image, -1, 0)]
    return np.clip(np.stack(channels, axis=-1), 0.0, 1.0)


def _scaled(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.LANCZOS)


def shrink(image: np.ndarray, *, most_px: int) -> np.ndarray:
    """A uint8 picture [h, w, 3] whose longer side is at most `most_px`; a small one as it is."""
    scale = most_px / max(image.shape[:2])
    if scale >= 1.0:
        return image
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Pictures in [0, 1], or uint8 already, to uint8, rounded."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes a [h, w, 3] picture, uint8 or in [0, 1]; the name's ending says the format.

    Raises:
      InputError: where the place cannot be written, or the ending names no format.
    """
    picture = Image.fromarray(to_uint8(image))
    with write_beside(path) as beside:
        try:
            picture.save(beside)
        except ValueError as error:
            raise InputError(f"{path}: not a name for a picture; end it in .png") from error


def contact_sheet(rows: Sequence[Iterable[np.ndarray]]) -> np.ndarray:
    """Rows of pictures of one size on white.

    Args:
      rows: of pictures [h, w, 3], uint8 or in [0, 1]; rows may differ in length.

    Returns:
      [h', w', 3] uint8.
    """
    table = [[to_uint8(picture) for picture in row] for row in rows]
    table = [row for row in table if row]
    height, width = (side + _GAP_PX for side in table[0][0].shape[:2])
    columns = max(map(len, table))
    shape = (len(table) * height - _GAP_PX, columns * width - _GAP_PX, 3)
    sheet = np.full(shape, 255, np.uint8)
    for i, row in enumerate(table):
        for j, picture in enumerate(row):
            top, left = i * height, j * width
            sheet[top : top + height - _GAP_PX, left : left + width - _GAP_PX] = picture
    return sheet
