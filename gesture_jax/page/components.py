"""Controls and panels that the page's tabs share."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from gesture_jax.errors import InputError
from gesture_jax.page import theme
from gesture_jax.page.jobs import Cancelled, Finished
from gesture_jax.page.settings import SAMPLERS, SETTINGS, defaults
from gesture_jax.people import pose

# Requests of all visitors share one queue for the models.
MODEL_QUEUE = {"concurrency_id": "model", "concurrency_limit": 1}
RAW = {"preprocess": False, "api_visibility": "private"}
"""Options of events: the handlers read the files themselves, and no API is published."""


def portrait_input(portraits: list[str], key: str) -> tuple[gr.Image, gr.File]:
    """Uploads for a portrait, with examples of drawn people, and for an avatar instead of it."""
    image = gr.Image(
        label="Portrait", sources=["upload", "webcam", "clipboard"], type="filepath", height=260,
        elem_id=f"{key}-portrait", buttons=[],
    )  # fmt: skip
    gr.Examples(
        [[path] for path in portraits], [image], label="Drawn people", elem_id=f"{key}-people"
    )
    with gr.Accordion("Avatar instead of a portrait", open=False):
        avatar = gr.File(
            label="A file from the tab Avatar, or from gesture_jax.personalize",
            file_types=[".avatar"], type="filepath", height=120, elem_id=f"{key}-avatar",
        )  # fmt: skip
    return image, avatar


def style_inputs(fixed_watermark: str | None) -> list:
    """Controls for `Style`; a fixed watermark cannot be switched off."""
    with gr.Accordion("Picture", open=False):
        crop = _framing_input()
        paste_back = gr.Checkbox(
            False, label="Whole picture",
            info="Pastes the moving square back into your picture.",
        )  # fmt: skip
        watermark = gr.Checkbox(
            fixed_watermark is not None, label="Watermark", interactive=fixed_watermark is None,
            info="Writes “synthetic” into a corner of every frame.",
        )  # fmt: skip
    return [crop, paste_back, watermark]


def _framing_input() -> gr.Radio:
    finds = pose.is_installed()
    hint = f" (To find people, install the extra [pose]: {pose.remedy()}.)"
    choices = [("Find the person", "auto")] if finds else []
    return gr.Radio(
        [*choices, ("Centre", "center")], value="auto" if finds else "center", label="Framing",
        info="Which square of the portrait moves: around the person as in training, or the "
        f"central one.{'' if finds else hint}",
    )  # fmt: skip


def number_inputs(config) -> tuple[list, Callable]:
    """Controls for stage 2, and a function that sets them to the config of another model."""
    with gr.Accordion("Motion", open=False):
        seed = gr.Number(0, label="Seed", precision=0, info="The same seed gives the same video.")
        speaker = gr.Dropdown([], label="Manner", visible=False, info="Whose manner of moving.")
        sampler = gr.Dropdown(
            list(SAMPLERS), value=SAMPLERS[0], label="Sampler",
            info="Sampler of the diffusion; dpm needs the fewest steps.",
        )  # fmt: skip
        sliders = [
            gr.Slider(s.low, s.high, value=s.low, step=s.step, label=s.label, info=s.info)
            for s in SETTINGS
        ]
    controls = [seed, speaker, sampler, *sliders]

    def set_to(config) -> list:
        if config is None:
            return [gr.skip()] * (len(controls) - 1)
        names = list(config.speakers)
        manner = gr.update(choices=names, value=names[0] if names else None, visible=bool(names))
        return [manner, config.sampler.name, *defaults(config)]

    if config is not None:
        sampler.value = config.sampler.name
        for slider, value in zip(sliders, defaults(config), strict=True):
            slider.value = value
        names = list(config.speakers)
        speaker.choices = [(name, name) for name in names]
        speaker.value, speaker.visible = (names[0] if names else None), bool(names)
    return controls, set_to


@dataclasses.dataclass(frozen=True)
class Panel:
    """The outputs of a tab."""

    status: gr.HTML
    video: gr.Video
    plot: gr.HTML
    download: gr.DownloadButton
    motion: gr.DownloadButton

    @classmethod
    def build(cls, key: str, hint: str) -> "Panel":
        """Adds the outputs to the page."""
        status = gr.HTML(theme.hint(hint), elem_id=f"{key}-status")
        video = gr.Video(
            show_label=False, interactive=False, autoplay=True, elem_id=f"{key}-video",
            elem_classes="gj-video", buttons=[], visible=False,
        )  # fmt: skip
        plot = gr.HTML(visible=False)
        with gr.Row():
            download = gr.DownloadButton("Video (mp4)", visible=False, elem_id=f"{key}-download")
            motion = gr.DownloadButton("Motion (npz)", visible=False, elem_id=f"{key}-motion")
        return cls(status, video, plot, download, motion)

    @property
    def outputs(self) -> list:
        """The components that `follow` updates."""
        return [self.status, self.video, self.plot, self.download, self.motion]

    def follow(self, start: Callable[[], Iterator]) -> Iterator[list]:
        """Yields values of `outputs` while a job runs, or its error."""
        hidden = [gr.update(visible=False, value=None) for _ in self.outputs[1:]]
        try:
            first = True
            for update in start():
                if isinstance(update, Finished):
                    yield self._finished(update.result)
                else:
                    rest = hidden if first else [gr.skip()] * len(hidden)
                    yield [theme.working(update), *rest]
                    first = False
        except InputError as error:
            yield [theme.error(str(error)), *hidden]
        except Cancelled:
            yield [theme.hint("Cancelled."), *hidden]

    def _finished(self, result: Any) -> list:
        shown = lambda value: gr.update(value=value, visible=True)
        return [
            theme.done("Done.", result.notices), shown(result.video), shown(theme.plot(result.svg)),
            shown(result.video), shown(result.motion),
        ]  # fmt: skip
