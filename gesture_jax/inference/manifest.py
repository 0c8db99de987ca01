"""Requests for videos: one from flags, or many from a manifest file."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from gesture_jax.errors import InputError
from gesture_jax.storage.files import as_path, expand_home
from gesture_jax.storage.output_paths import UsedPlaces, check_ending, check_outputs

# The fields of a request that are paths: of files to read, and of files to write.
READ = "image", "audio", "motion", "gestures"
WRITTEN = "out", "sheet", "save_motion"
_NUM_SEEDS = 2**32
# A seed in a CSV file, where every value is text.
_SEED_TEXT = re.compile("[0-9]{1,20}")


@dataclasses.dataclass(frozen=True)
class Request:
    """One video to generate.

    Attributes:
      image: path of the portrait.
      audio: path of the speech.
      out: path of the mp4 to write.
      seed: of the noise.
      speaker: whose manner of moving, where stage 2 knows several speakers.
      sheet: path of a PNG with frames spread over the clip, if wanted.
      save_motion: path of an .npz with the motion features, if wanted.
      motion: path of such an .npz; it is rendered again, and no motion is generated.
      gestures: path of a video or such an .npz; hands, head and body follow it, and speech moves
        only the lips.
    """

    image: str
    audio: str
    out: str
    seed: int = 0
    speaker: str | None = None
    sheet: str | None = None
    save_motion: str | None = None
    motion: str | None = None
    gestures: str | None = None

    def __post_init__(self):
        """Raises InputError for a value of another type, which a manifest may have."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = int if field.name == "seed" else str
            if value is None and field.default is None:
                continue
            if type(value) is not wanted:
                raise InputError(f"{field.name} is {value!r}; {wanted.__name__} is wanted")
            if wanted is str and not _is_text(value):
                raise InputError(f"{field.name} is {value!r}, which is not a valid file name")
        if not 0 <= self.seed < _NUM_SEEDS:
            raise InputError(f"seed is {self.seed}; it has to be 0 to {_NUM_SEEDS - 1}")
        if self.motion and self.gestures:
            raise InputError(f"{self.motion}: motion is rendered as it is; drop motion or gestures")
        # These are checked here, before the video is rendered.
        check_ending(self.sheet, ".png")
        check_ending(self.save_motion, ".npz")
        places = dataclasses.asdict(self)
        check_outputs({key: places[key] for key in WRITTEN}, {key: places[key] for key in READ})


FIELDS = tuple(field.name for field in dataclasses.fields(Request))


def read_requests(
    manifest: str | None, *, seed: int, avatar: str | None = None, **files: str | None
) -> list[tuple[str, Request | InputError]]:
    """Makes one request from flags, or reads those of a manifest.

    Args:
      manifest: path of a CSV with a header, or else of a file with one JSON object per line; keys
        are the fields of `Request`. None for flags.
      seed: the seed of flags, and of rows without one.
      avatar: the avatar that is the portrait of flags, and of rows without one.
      **files: the other fields of `Request`, from flags.

    Returns:
      The place of each row ("" for flags), and its request or its error.

    Raises:
      InputError: where flags are missing or too many, or the manifest cannot be read or is empty.
    """
    if manifest is None:
        files["image"] = files["image"] or avatar
        missing = [name for name in ("image", "audio", "out") if files[name] is None]
        if missing:
            raise InputError(
                f"--{missing[0]} is missing; give --image, --audio and --out, or --manifest"
            )
        return [("", Request(**files, seed=seed))]
    if any(value is not None for value in files.values()):
        raise InputError(
            f"{manifest}: with --manifest, its rows name all files; drop the other flags"
        )
    rows = list(_read_rows(as_path(manifest)))
    if not rows:
        raise InputError(f"{manifest}: is empty; it needs rows with image, audio, out")
    parsed = [(f"{manifest}:{number}", _parse(row, seed, avatar)) for number, row in rows]
    return list(_refuse_overwriting(parsed))


def _refuse_overwriting(
    rows: Sequence[tuple[str, Request | InputError]],
) -> Iterator[tuple[str, Request | InputError]]:
    """Refuses rows that would overwrite a file that another row reads or has written.

    A row may read, as motion or gestures, a file that an earlier row has written.
    """
    places = UsedPlaces()
    for where, request in rows:
        if isinstance(request, Request):
            for name in ("image", "audio"):
                places.add_input(f"{name} of {where}", getattr(request, name))
    for where, request in rows:
        if isinstance(request, Request):
            places.add_input(f"motion of {where}", request.motion)
            places.add_input(f"gestures of {where}", request.gestures)
            try:
                for name in WRITTEN:
                    places.add_output(f"{name} of {where}", getattr(request, name))
            except InputError as error:
                request = error
        yield where, request


def _read_rows(path: pathlib.Path) -> Iterator[tuple[int, object]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{path}: cannot be read; it has to be a CSV, or a text file with JSON lines"
        ) from None
    yield from _csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text)


def _json_rows(text: str) -> Iterator[tuple[int, object]]:
    # `splitlines` would also split at other characters, which JSON strings may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            yield number, None


def _is_text(value: str) -> bool:
    """Whether the operating system accepts this file name."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _csv_rows(text: str) -> Iterator[tuple[int, object]]:
    number, has_keys = 0, False

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(io.StringIO(text, newline=""), start=1):  # noqa: B007
            yield line

    reader = csv.DictReader(lines(), strict=True)
    while True:
        try:
            has_keys = has_keys or bool(reader.fieldnames)
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield number, None
            if not has_keys:
                return
        else:
            filled = {key: value for key, value in row.items() if value}
            if _SEED_TEXT.fullmatch(filled.get("seed", "")):
                filled["seed"] = int(filled["seed"])
            yield number, filled


def _parse(row: object, seed: int, avatar: str | None) -> Request | InputError:
    if isinstance(row, dict) and avatar is not None:
        row = {"image": avatar, **row}
    if not isinstance(row, dict) or not {"image", "audio", "out"} <= set(row) <= set(FIELDS):
        keys = ", ".join(FIELDS)
        return InputError(f"not a row with keys among {keys}; the first three are needed")
    paths = {key: row[key] for key in (*READ, *WRITTEN) if isinstance(row.get(key), str)}
    try:
        return Request(**{"seed": seed, **row, **{k: expand_home(x) for k, x in paths.items()}})
    except InputError as error:
        return error
