"""Media files as they occur in practice: other rates, layouts, depths, and damage of every kind.

Each shows a flash and sounds a burst at the same moment, so that a reader can be tested for keeping
picture and sound together.
"""

import fractions
import pathlib
import struct

import av
import numpy as np

FLASH_SEC = 2.0


def write(
    path: pathlib.Path,
    *,
    fps: str = "25",
    seconds: float = 4.0,
    audio_seconds: float | None = None,
    rate: int = 48_000,
    layout: str = "mono",
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sound_codec: str = "aac",
    times: list[float] | None = None,
    options: dict | None = None,
    aspect: str | None = None,
) -> pathlib.Path:
    """A clip whose middle turns bright, and whose hum turns to a burst, at `FLASH_SEC`.

    Args:
      path: its ending says the container.
      fps: frames a second, as a fraction.
      seconds: of picture.
      audio_seconds: of sound; as long as the picture by default, 0 for none.
      rate: of the sound, in Hz.
      layout: of the sound's channels.
      size: width and height.
      codec: of the picture.
      pix_fmt: of the picture.
      sound_codec: of the sound.
      times: of the frames in seconds, instead of a constant rate.
      options: of the container.
      aspect: width of a pixel over its height, as a fraction; None does not say.
    """
    step = fractions.Fraction(fps)
    tick = 1 / step if times is None else fractions.Fraction(1, 12_000)
    times = times or [float(k / step) for k in range(round(seconds * step))]
    audio_seconds = seconds if audio_seconds is None else audio_seconds
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=step)
        video.width, video.height = size
        video.pix_fmt = pix_fmt
        if aspect:
            video.codec_context.sample_aspect_ratio = fractions.Fraction(aspect)
        video.codec_context.time_base = tick
        video.codec_context.gop_size = 12
        track = None
        if audio_seconds:
            track = container.add_stream(sound_codec, rate=rate, layout=layout)
            samples = _sound(audio_seconds, rate)
        for time in times:
            frame = av.VideoFrame.from_ndarray(_picture(time, size), format="rgb24")
            frame.pts, frame.time_base = round(time / tick), tick
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if track is not None:
            channels = len(track.codec_context.layout.channels)
            for start in range(0, len(samples), 4096):
                block = np.repeat(samples[None, start : start + 4096], channels, axis=0)
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = rate, start
                container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def flash_sec(frames: np.ndarray) -> float:
    """When the middle of frames [t, h, w, 3] uint8, 25 a second, turns bright."""
    first, last = frames.shape[1] * 3 // 8, frames.shape[1] * 5 // 8
    levels = frames[:, first:last, first:last].mean(axis=(1, 2, 3))
    return float(np.argmax(levels > 128)) / 25


def burst_sec(audio: np.ndarray) -> float:
    """When sound [n], 16 kHz, gets loud: the first 5 ms above a fifth of the loudest."""
    frames = np.abs(audio[: len(audio) // 80 * 80]).reshape(-1, 80).max(axis=1)
    return float(np.argmax(frames > 0.2 * frames.max())) * 80 / 16_000


def truncate(path: pathlib.Path, share: float) -> pathlib.Path:
    """Keeps the beginning of a file only."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def corrupt(path: pathlib.Path, start: float, stop: float) -> pathlib.Path:
    """Overwrites a stretch of a file with noise."""
    content = bytearray(path.read_bytes())
    first, last = int(len(content) * start), int(len(content) * stop)
    noise = np.random.default_rng(0).integers(0, 256, last - first, dtype=np.uint8)
    content[first:last] = noise.tobytes()
    path.write_bytes(content)
    return path


def claim_two_hours(path: pathlib.Path) -> pathlib.Path:
    """Makes an mp4's headers say that it lasts two hours."""
    content = bytearray(path.read_bytes())
    (scale,) = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)
    struct.pack_into(">I", content, content.index(b"mvhd") + 20, 7_200 * scale)
    position = -1
    while (position := content.find(b"tkhd", position + 1)) >= 0:
        struct.pack_into(">I", content, position + 24, 7_200 * scale)
    position = -1
    while (position := content.find(b"mdhd", position + 1)) >= 0:
        (scale,) = struct.unpack_from(">I", content, position + 16)
        struct.pack_into(">I", content, position + 20, 7_200 * scale)
    path.write_bytes(content)
    return path


def turn(path: pathlib.Path) -> pathlib.Path:
    """Makes an mp4's header say that its picture is shown turned by 90 degrees clockwise."""
    content = bytearray(path.read_bytes())
    matrix = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, *matrix)
    path.write_bytes(content)
    return path


def _picture(time: float, size: tuple[int, int]) -> np.ndarray:
    """A middle that is dark, then bright; a mark in the upper left corner; a bar that moves."""
    width, height = size
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[: height // 4, : width // 4] = 255, 0, 0
    column = int(time * 10) % (width - 4)
    picture[height * 3 // 4 :, column : column + 4] = 120
    if time >= FLASH_SEC - 1e-6:  # Small enough not to be taken for another scene.
        picture[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8] = 230
    return picture


def _sound(seconds: float, rate: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    loud = np.where(time >= FLASH_SEC, 0.6, 0.02)
    return (loud * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
