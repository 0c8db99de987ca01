"""Draws the contact sheet of a data set: pictures of its clips, and what was left out and why.

It is one HTML file with all pictures inside, to be opened in a browser or mailed.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from gesture_jax.data import clips
from gesture_jax.data.clips import FrameRecords
from gesture_jax.media.rates import FPS
from gesture_jax.preparation.splits import Stretch

_PICTURES = 4
_PICTURE_PX = 80
_JPEG_QUALITY = 60
# Larger data sets show every n-th clip, as browsers are slow with more pictures.
_MAX_CLIPS = 600
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 90em; padding: 0 1em;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .2em 1em .2em 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 1em; }
figure { margin: 0; } figcaption { font-size: 13px; color: #555; } img { display: block; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; }
       figcaption { color: #aaa; } }
"""


def draw(name: str, report: Mapping[str, Any], by_split: Mapping[str, Sequence[Stretch]]) -> str:
    """Returns the page as HTML.

    Args:
      name: name of the data set.
      report: as `dataset.prepare` returns it.
      by_split: the clips of each split.
    """
    title = html.escape(f"{name}: {report['kept']['clips']} clips")
    body = [f"<h1>{title}</h1>", _draw_totals(report)]
    body += [_draw_split(split, stretches) for split, stretches in by_split.items()]
    body.append(_draw_left_out(report["left_out"]))
    head = f"<meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en>{head}{''.join(body)}</html>\n"


def _draw_totals(report: Mapping[str, Any]) -> str:
    rows = [("", "clips", "minutes")]
    for group in (report["splits"], report["speakers"]):
        rows += [(name, f["clips"], round(f["hours"] * 60, 1)) for name, f in group.items()]
    return _draw_table(rows)


def _draw_left_out(left_out: Mapping[str, Any]) -> str:
    if not left_out["count"]:
        return "<h2>Nothing was left out</h2>"
    entries = [(e["name"], e["reason"], e["detail"]) for e in left_out["each"]]
    return f"<h2>Left out: {left_out['count']}</h2>" + _draw_table([("", "why", ""), *entries])


def _draw_table(rows: Sequence[Sequence[Any]]) -> str:
    head, *body = rows
    mark = lambda cell: " class=number" if isinstance(cell, int | float) else ""
    cells = lambda row, tag: "".join(
        f"<{tag}{mark(cell)}>{html.escape(str(cell))}</{tag}>" for cell in row
    )
    lines = [f"<tr>{cells(head, 'th')}</tr>", *(f"<tr>{cells(row, 'td')}</tr>" for row in body)]
    return f"<table>{''.join(lines)}</table>"


def _draw_split(split: str, stretches: Sequence[Stretch]) -> str:
    step = -(-len(stretches) // _MAX_CLIPS)
    shown = f", every {step}th is shown" if step > 1 else ""
    figures = "".join(_draw_clip(stretch) for stretch in stretches[::step])
    heading = f"<h2>{html.escape(split)}: {len(stretches)} clips{shown}</h2>"
    return f"{heading}<div class=clips>{figures}</div>"


def _draw_clip(stretch: Stretch) -> str:
    """Draws a strip of pictures that are spread over a clip."""
    length = stretch.stop - stretch.start
    strip = []
    for frame in np.linspace(0, length - 1, _PICTURES).astype(int):
        first = stretch.first_frame + int(frame)
        (content,) = stretch.part.read_frames(first, first + 1)
        picture = Image.fromarray(clips.decode_frame(FrameRecords.parse(content)["jpeg"]))
        strip.append(np.asarray(picture.resize((_PICTURE_PX, _PICTURE_PX))))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(strip, axis=1)).save(buffer, "jpeg", quality=_JPEG_QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    caption = html.escape(f"{stretch.clip_id}, {length / FPS:.1f} s")
    return (
        f'<figure><img src="{source}" alt="" width={_PICTURES * _PICTURE_PX} '
        f"height={_PICTURE_PX}><figcaption>{caption}</figcaption></figure>"
    )
