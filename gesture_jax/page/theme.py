"""The look of the page: its header, colours and snippets of HTML."""

import base64
import html

import gradio as gr

from gesture_jax.page.jobs import Progress

TITLE = "gesture_jax"
HEADER = """
<div class="gj-header">
  <h1>gesture_jax</h1>
  <p>One portrait and a speech recording in, a video of that person talking with their hands
  out.</p>
  <p class="gj-fine">Use pictures of people who agreed to it. Videos say in their metadata that
  they are synthetic. Your files are removed when you close the page.</p>
</div>
"""
EMPTY = '<div class="gj-status gj-empty">{}</div>'
CSS = """
.gradio-container {max-width: 1180px !important; margin: auto !important}
.gj-header h1 {font-size: 1.7rem; font-weight: 700; margin: .2rem 0; letter-spacing: -.02em}
.gj-header p {margin: .1rem 0; color: var(--body-text-color)}
.gj-header .gj-fine {font-size: .85rem; color: var(--body-text-color-subdued)}
.gj-status {border-radius: 10px; padding: .75rem 1rem; font-size: .95rem; line-height: 1.45;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill)}
.gj-empty {color: var(--body-text-color-subdued)}
.gj-error {border-color: #dc2626; background: #dc262614}
.gj-note {border-color: #d97706; background: #d9770614; margin-top: .5rem}
.gj-done {border-color: #16a34a; background: #16a34a14}
.gj-bar {height: 8px; border-radius: 4px; margin-top: .5rem; overflow: hidden;
  background: var(--border-color-primary)}
.gj-bar div {height: 100%; border-radius: 4px; background: #4f46e5; transition: width .25s linear}
.gj-bar .gj-waiting {width: 30%; animation: gj-slide 1.2s ease-in-out infinite alternate}
@keyframes gj-slide {from {margin-left: 0} to {margin-left: 70%}}
.gj-plot svg {width: 100%; height: auto; background: #fff; border-radius: 10px;
  border: 1px solid var(--border-color-primary)}
.gj-live {display: flex; justify-content: center; align-items: center; min-height: 340px;
  border-radius: 10px; border: 1px solid var(--border-color-primary); overflow: hidden;
  background: var(--block-background-fill); color: var(--body-text-color-subdued)}
.gj-live img {width: 340px; max-width: 100%; height: auto}
.gj-video video {max-height: 440px; width: 100%}
.gallery-item:has(img, video), .gallery-item:has(img, video) .container {
  width: 58px !important; height: 58px !important}
"""


def theme() -> gr.themes.Base:
    """Colours, and fonts of the visitor's system, so that no font is downloaded."""
    system = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Soft(
        primary_hue="indigo",
        neutral_hue="slate",
        font=system,
        font_mono=["ui-monospace", "monospace"],
    )


def error(sentence: str) -> str:
    """An error message."""
    return f'<div class="gj-status gj-error" role="alert">{html.escape(sentence)}</div>'


def done(sentence: str, notices: list[str]) -> str:
    """A message that work is done, with notices."""
    notes = "".join(
        f'<div class="gj-status gj-note">{html.escape(notice)}</div>' for notice in notices
    )
    return f'<div class="gj-status gj-done" role="status">{html.escape(sentence)}</div>{notes}'


def working(progress: Progress) -> str:
    """A progress bar with a text."""
    if not progress.done:
        words = "Loading and compiling the model, reading your files …"
        return f'{_status(words)}<div class="gj-bar"><div class="gj-waiting"></div></div></div>'
    words = f"Frame {progress.done}"
    if progress.total is None:
        return f"{_status(words)}</div>"
    words += f" of {progress.total}"
    if progress.seconds_left is not None:
        words += f" · about {_duration(progress.seconds_left)} left"
    share = 100 * progress.done / max(progress.total, 1)
    return (
        f'{_status(words)}<div class="gj-bar"><div style="width: {share:.1f}%"></div></div></div>'
    )


def hint(words: str) -> str:
    """A hint in a place that is still empty."""
    return EMPTY.format(html.escape(words))


def live(animation: bytes | None, words: str = "") -> str:
    """The picture of the live tab: a WebP animation, or words."""
    if animation is None:
        return f'<div class="gj-live">{html.escape(words)}</div>'
    data = base64.b64encode(animation).decode()
    return f'<div class="gj-live"><img alt="live" src="data:image/webp;base64,{data}"></div>'


def plot(svg: str) -> str:
    """The SVG of `plot.draw`."""
    return f'<div class="gj-plot">{svg}</div>'


def _status(words: str) -> str:
    return f'<div class="gj-status" role="status">{html.escape(words)}'


def _duration(seconds: float) -> str:
    rounded = max(round(seconds), 1)
    return f"{rounded} s" if rounded < 90 else f"{round(rounded / 60)} min"
