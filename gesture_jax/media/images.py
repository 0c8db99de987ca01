"""Reads pictures from any file or array; makes squares for the networks and contact sheets."""

import contextlib
import dataclasses
import io
import os
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from gesture_jax.errors import InputError
from gesture_jax.storage.files import as_path, is_file, local_copy, size_of, write_beside

# Larger pictures are decompression bombs or huge scans. JPEGs may have as many pixels as Pillow
# opens, because they are scaled down while they are decoded.
_MAX_PIXELS = 70_000_000
# Pictures with more pixels are scaled down to less than this.
_KEPT_PIXELS = 25_000_000
# Pillow knows more formats; some call other programs (EPS), and none is used for portraits.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
# The endings of pictures in a folder.
ENDINGS = (
    ".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif", ".bmp", ".gif", ".tif", ".tiff",
)  # fmt: skip
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_MAX_BYTES = 256 << 20
_GAP_PX = 2
_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture as it was read.

    Attributes:
      picture: [h, w, 3], uint8, or float32 in [0, 1] where the file has more than 8 bits.
      size: width and height of the file's picture, upright.
      reduction: the factor by which `picture` was scaled down: 1, 2, 4 or 8.
    """

    picture: np.ndarray
    size: tuple[int, int]
    reduction: int


def load_image(path: str | os.PathLike) -> np.ndarray:
    """Returns the picture of `load_photo`."""
    return load_photo(path).picture


def load_photo(path: str | os.PathLike) -> Photo:
    """Reads a picture: upright, in sRGB, transparency over white; huge pictures are scaled down.

    Args:
      path: a file of one of `FORMATS`, or HEIC with the extra `[heic]`; any mode, 8 or 16 bits.

    Raises:
      InputError: if it is missing, empty, not a picture, too large or damaged.
    """
    path = as_path(path)
    if not is_file(path):
        raise InputError(f"{path}: no such file; give a picture")
    if not size_of(path):
        raise InputError(f"{path}: is empty (0 bytes); give a picture")
    if size_of(path) > _MAX_BYTES:
        raise InputError(f"{path}: is too large a file for a picture; scale it down")
    content = local_copy(path).read_bytes()
    formats = [*FORMATS, *_heic_format(path, content)]
    try:
        # Pillow warns of oddities that do not matter here.
        with (
            warnings.catch_warnings(action="ignore"),
            # From bytes, because Pillow reads from files as many bytes as they claim to have.
            Image.open(io.BytesIO(content), formats=formats) as image,
        ):
            if image.width * image.height > _MAX_PIXELS and not _is_decoded_in_steps(image):
                raise InputError(
                    f"{path}: {image.width}x{image.height} pixels are too many; scale it down"
                )
            return _read(image)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: has too many pixels; scale it down") from error
    except Exception as error:  # Hostile bytes fail in many ways; none of them is our defect.
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else "damaged"
        raise InputError(f"{path}: {reason}; give one of {', '.join(FORMATS)}") from error


def _heic_format(path: os.PathLike, content: bytes) -> list[str]:
    """Returns Pillow's name of the format for a HEIC file, [] for other files.

    Raises:
      InputError: if it is HEIC and the extra is not installed.
    """
    length = int.from_bytes(content[:4], "big")
    brands = {content[k : k + 4] for k in range(8, min(length, 256), 4)}
    if content[4:8] != b"ftyp" or not brands & _HEIC_BRANDS:
        return []
    try:
        import pillow_heif
    except ImportError:
        raise InputError(
            f"{path}: is a HEIC picture; save it as JPEG, or install what reads it: "
            'pip install "gesture_jax[heic]"'
        ) from None
    pillow_heif.register_heif_opener()
    return ["HEIF"]


def _is_decoded_in_steps(image: Image.Image) -> bool:
    """Returns whether the decoder can scale down as it decodes, which saves memory."""
    return isinstance(image, JpegImageFile) and "progressive" not in image.info


def _read(image: Image.Image) -> Photo:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    width, height = image.size
    reduction = 1
    while width * height > _KEPT_PIXELS * reduction**2 and reduction < 8:
        reduction *= 2
    if isinstance(image, JpegImageFile):
        image.draft(None, (max(width // reduction, 1), max(height // reduction, 1)))
    if image.size == (width, height):
        small = _averageable(image).reduce(reduction)
    else:
        small = _averageable(image)
    profile = image.info.get("icc_profile")
    small = _in_srgb(small, profile) if profile else small
    # The rest of EXIF is not needed, and it may be damaged.
    small.info.clear()
    small.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(small, in_place=True)
    size = (height, width) if orientation in range(5, 9) else (width, height)
    return Photo(to_rgb(_as_array(small)), size, reduction)


def _averageable(image: Image.Image) -> Image.Image:
    """Converts a picture to a mode in which pixels can be averaged."""
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if "A" in image.mode or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode in ("1", "P", "PA") else image


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Applies a colour profile; returns the picture unchanged if the profile is damaged."""
    with contextlib.suppress(ImageCms.PyCMSError, OSError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = {"RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}.get(image.mode)
        if source.profile.xcolor_space.strip() == space:
            mode = "RGBA" if image.mode == "RGBA" else "RGB"
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, srgb, outputMode=mode) or image
    return image


def _as_array(image: Image.Image) -> np.ndarray:
    if image.mode == "I":  # Grey of 16 bits.
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    if image.mode == "F":
        return np.clip(np.asarray(image), 0.0, 1.0)
    return np.asarray(image if image.mode in ("RGB", "RGBA") else image.convert("RGB"))


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Converts any picture array to RGB.

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
    """Cuts out the central square of a picture and scales it with anti-aliasing.

    Args:
      image: [h, w, 3], uint8 or float32.
      size: side of the result in pixels.

    Returns:
      [size, size, 3] of the same type; unchanged values if the size is right already.
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
    """Scales a uint8 picture [h, w, 3] down if its longer side is larger than `most_px`."""
    scale = most_px / max(image.shape[:2])
    if scale >= 1.0:
        return image
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Converts pictures in [0, 1] to uint8, rounded; uint8 stays as it is."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes a [h, w, 3] picture, uint8 or in [0, 1]; the ending determines the format.

    Raises:
      InputError: if the file cannot be written, or no format has this ending.
    """
    picture = Image.fromarray(to_uint8(image))
    with write_beside(path) as beside:
        try:
            picture.save(beside)
        except ValueError as error:
            raise InputError(f"{path}: not a name for a picture; end it in .png") from error


def contact_sheet(rows: Sequence[Iterable[np.ndarray]]) -> np.ndarray:
    """Arranges rows of pictures of one size on white.

    Args:
      rows: rows of pictures [h, w, 3], uint8 or in [0, 1]; rows may differ in length.

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
