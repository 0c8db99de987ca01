"""Decoded video frames as a player shows them: upright, with square pixels, in SDR colours."""

import dataclasses
import fractions
import functools
from collections.abc import Callable

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import Colorspace, VideoReformatter

# Numbers of H.273, which FFmpeg uses too.
_BT2020, _DISPLAY_P3 = 9, 12
_PQ, _HLG = 16, 18
# Linear RGB of other primaries to that of BT.709; all have the same white point.
_TO_BT709 = {
    _BT2020: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    _DISPLAY_P3: [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]],
}
# The luminance of diffuse white in HDR (BT.2408), which becomes white in SDR.
_WHITE_NITS = 203.0
# The peak luminance and the system gamma of the reference display of HLG (BT.2100).
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
# Linear light up to this value stays as it is; brighter light is compressed into the rest.
_KNEE = 0.8
_SDR_GAMMA = 2.4  # BT.1886.
# A Hald table of level n holds n**2 values for each of red, green and blue.
_HALD_LEVEL = 8
# A pixel aspect ratio beyond this is a sign of damage.
MAX_ASPECT = 4


def aspect_of(stream) -> fractions.Fraction:
    """Returns the width of a stream's pixels over their height; 1 if it is not given."""
    return stream.sample_aspect_ratio or fractions.Fraction(1)


class Display:
    """Converts the frames of one stream to pictures [h, w, 3] uint8."""

    def __init__(self, stream, *, most_px: int | None = None):
        """Pictures with a longer side than `most_px` are scaled down by a fast method."""
        self._stream, self._most_px = stream, most_px
        self._reformatter = VideoReformatter()  # Otherwise each frame makes its own, with threads.
        self._tables: dict[tuple, _ColourTable] = {}

    def defer(self, frame: av.VideoFrame) -> Callable[[], np.ndarray]:
        """Returns a function that converts the frame later, even after the stream is closed."""
        context = self._stream.codec_context
        colours = _Colours(int(context.color_trc), int(context.color_primaries))
        return functools.partial(self._convert, frame, colours, aspect_of(self._stream))

    def _convert(
        self, frame: av.VideoFrame, colours: "_Colours", aspect: fractions.Fraction
    ) -> np.ndarray:
        width, height = frame.width * max(aspect, 1), frame.height / min(aspect, 1)
        scale = 1.0 if self._most_px is None else min(1.0, self._most_px / max(width, height))
        # The shorter side of a pixel is stretched, so that no detail is lost.
        shown = self._reformatter.reformat(
            frame,
            width=max(round(width * scale), 1),
            height=max(round(height * scale), 1),
            format="rgb24" if colours.are_sdr else "rgb48le",
            src_colorspace=_matrix_of(frame, colours),
        )
        if not colours.are_sdr:
            key = shown.width, shown.height, colours
            if key not in self._tables:
                self._tables = {key: _ColourTable(*key)}
            shown = self._tables[key](shown)
        return _turn(shown.to_ndarray(format="rgb24"), _display_matrix(frame))


@dataclasses.dataclass(frozen=True)
class _Colours:
    """The transfer function and the primaries of a stream, as numbers of H.273."""

    transfer: int
    primaries: int

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (_PQ, _HLG)

    @property
    def are_sdr(self) -> bool:
        """Whether no conversion is needed."""
        return not self.is_hdr and self.primaries not in _TO_BT709

    def to_sdr(self, values: np.ndarray) -> np.ndarray:
        """Converts encoded RGB [n, 3] in [0, 1] to SDR with BT.709 primaries, in [0, 1]."""
        if self.transfer == _PQ:
            light = _decode_pq(values) / _WHITE_NITS
        elif self.transfer == _HLG:
            light = _decode_hlg(values) / _WHITE_NITS
        else:
            light = values**_SDR_GAMMA
        primaries = _BT2020 if self.is_hdr and self.primaries not in _TO_BT709 else self.primaries
        light = np.maximum(light @ np.transpose(_TO_BT709[primaries]), 0.0)
        if self.is_hdr:
            above = np.maximum(light - _KNEE, 0.0) / (1.0 - _KNEE)
            light = np.minimum(light, _KNEE) + (1.0 - _KNEE) * above / (1.0 + above)
        return np.minimum(light, 1.0) ** (1.0 / _SDR_GAMMA)


class _ColourTable:
    """Maps the colours of 16-bit frames of one size by a lookup table, with FFmpeg."""

    def __init__(self, width: int, height: int, colours: _Colours):
        table = _hald_table(colours)
        self._count = 0
        self._graph = av.filter.Graph()
        add = functools.partial(
            self._graph.add_buffer, format="rgb48le", time_base=fractions.Fraction(1, 25)
        )
        self._source = add(width=width, height=height)
        side = len(table)
        clut = add(width=side, height=side)
        mapping, self._sink = self._graph.add("haldclut"), self._graph.add("buffersink")
        self._source.link_to(mapping, 0, 0)
        clut.link_to(mapping, 0, 1)
        mapping.link_to(self._sink)
        self._graph.configure()
        clut.push(self._numbered(av.VideoFrame.from_ndarray(table, format="rgb48le"), 0))
        clut.push(None)

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._source.push(self._numbered(frame, self._count))
        self._count += 1
        return self._sink.pull()

    def _numbered(self, frame: av.VideoFrame, number: int) -> av.VideoFrame:
        frame.pts, frame.time_base = number, fractions.Fraction(1, 25)
        return frame


@functools.lru_cache(maxsize=4)
def _hald_table(colours: _Colours) -> np.ndarray:
    """Builds the table, [n**3, n**3, 3] uint16 for level n; red varies fastest, blue slowest."""
    steps = np.linspace(0.0, 1.0, _HALD_LEVEL**2)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    mapped = colours.to_sdr(np.stack([red, green, blue], axis=-1).reshape(-1, 3))
    return np.rint(65535 * mapped).astype("<u2").reshape(_HALD_LEVEL**3, _HALD_LEVEL**3, 3)


def _decode_pq(values: np.ndarray) -> np.ndarray:
    """Converts SMPTE ST 2084 values to nits."""
    powers = values ** (32 / 2523)
    share = np.maximum(powers - 107 / 128, 0.0) / (2413 / 128 - 2392 / 128 * powers)
    return 10_000.0 * share ** (8192 / 1305)


def _decode_hlg(values: np.ndarray) -> np.ndarray:
    """Converts ARIB STD-B67 values to nits on the reference display."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return _HLG_PEAK_NITS * scene * luminance[..., None] ** (_HLG_GAMMA - 1.0)


def _matrix_of(frame: av.VideoFrame, colours: _Colours) -> Colorspace:
    """Returns the matrix of a frame's YUV; if it is not given, the one that players assume."""
    named = int(frame.colorspace)
    if named in (1, 4, 5, 7, 9):
        return Colorspace(named)
    if named == 6:  # The same as 5.
        return Colorspace.ITU601
    if colours.is_hdr:
        return Colorspace.BT2020
    high_definition = frame.width >= 1280 or frame.height > 576
    return Colorspace.ITU709 if high_definition else Colorspace.ITU601


def _display_matrix(frame: av.VideoFrame) -> np.ndarray:
    """Returns [2, 2]: a stored point (x, y), y downwards, is shown at (x, y) @ matrix."""
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return np.eye(2)
    return np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].astype(np.float64)


def _turn(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Turns a picture to the nearest of the eight orientations."""
    (xx, xy), (yx, yy) = matrix
    if abs(xy) + abs(yx) > abs(xx) + abs(yy):
        picture, xx, yy = picture.swapaxes(0, 1), yx, xy
    return picture[:: -1 if yy < 0 else 1, :: -1 if xx < 0 else 1]
