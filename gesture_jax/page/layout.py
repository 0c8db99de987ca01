"""The page: three tabs, one model for all of them."""

import gradio as gr

from gesture_jax.errors import InputError
from gesture_jax.page import theme
from gesture_jax.page.components import (  # fmt: skip
    MODEL_LINE,
    RAW,
    Panel,
    look_inputs,
    number_inputs,
    portrait_input,
)
from gesture_jax.page.examples import Examples
from gesture_jax.page.handlers import Handlers
from gesture_jax.page.sessions import Sessions

# A second of sound comes in two pieces; frames are shown as often.
_STREAM_EVERY_SEC = 0.5


def build(
    desk: Handlers, visits: Sessions, examples: Examples, *, delete_after_sec: int
) -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(
        title=theme.TITLE, analytics_enabled=False, delete_cache=(60, delete_after_sec)
    ) as page:
        gr.HTML(theme.HEADER)
        names = desk.shelf.names
        model = gr.Dropdown(
            names, value=names[0], label="Model", elem_id="model",
            info="What was trained; each has its own size of frames.",
        )  # fmt: skip
        with gr.Tabs():
            with gr.Tab("Talk", id="talk"):
                settle, controls = _talk_tab(desk, visits, examples, model)
            with gr.Tab("Animate", id="animate"):
                _animate_tab(desk, visits, examples, model)
            with gr.Tab("Live", id="live"):
                _live_tab(desk, visits, examples, model)
        set_controls = lambda name: settle(desk.shelf.config(name))
        model.change(set_controls, model, controls, queue=False, show_progress="hidden", **RAW)

        def leave(request: gr.Request):
            visits.end(request)

        page.unload(leave)
    return page


def lasting_files(page: gr.Blocks) -> set[str]:
    """Files that belong to the page itself: its examples."""
    return set().union(*(getattr(b, "keep_in_cache", ()) for b in page.blocks.values()))


def _talk_tab(desk: Handlers, visits: Sessions, examples: Examples, model: gr.Dropdown):
    with gr.Row():
        with gr.Column(scale=5):
            image = portrait_input(examples.portraits, "talk")
            audio = gr.Audio(
                label="Speech", sources=["upload", "microphone"], type="filepath",
                elem_id="talk-speech", buttons=[],
            )  # fmt: skip
            voices = [f"Voice {number + 1}" for number in range(len(examples.speeches))]
            gr.Examples(
                [[path] for path in examples.speeches], [audio], label="Made-up voices",
                example_labels=voices,
            )  # fmt: skip
            pictures = look_inputs(desk.mark)
            controls, settle = number_inputs(desk.shelf.config(desk.shelf.names[0]))
        with gr.Column(scale=6):
            go, cancel = _buttons("Generate", "talk")
            panel = Panel.build("talk", "Give a portrait and speech, then press Generate.")

    def talk(request: gr.Request, name, image, audio, crop, paste, mark, *values):
        visit, chosen = visits.of(request), (crop, paste, mark)
        yield from panel.follow(lambda: desk.talk(visit, name, image, audio, chosen, *values))

    inputs = [model, image, audio, *pictures, *controls]
    _connect(go, cancel, talk, inputs, panel, visits)
    return settle, controls[1:]


def _animate_tab(desk: Handlers, visits: Sessions, examples: Examples, model: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column(scale=5):
            image = portrait_input(examples.portraits, "animate")
            driving = gr.Video(
                label="Driving video", sources=["upload", "webcam"], height=300,
                elem_id="animate-driving", buttons=[],
            )  # fmt: skip
            gr.Examples([[examples.driving]], [driving], label="A drawn person who gestures")
            relative = gr.Checkbox(
                True, label="Keep the portrait's own pose",
                info="Takes the changes of the driving video only, not its poses themselves.",
            )  # fmt: skip
            side_by_side = gr.Checkbox(
                False, label="Side by side", info="Portrait, driving frame and result in a row."
            )
            pictures = look_inputs(desk.mark)
        with gr.Column(scale=6):
            go, cancel = _buttons("Animate", "animate")
            panel = Panel.build("animate", "Give a portrait and a video whose motion it takes.")

    def animate(request: gr.Request, name, image, driving, relative, beside, *chosen):
        visit = visits.of(request)
        yield from panel.follow(
            lambda: desk.animate(visit, name, image, driving, chosen, relative, beside)
        )

    inputs = [model, image, driving, relative, side_by_side, *pictures]
    _connect(go, cancel, animate, inputs, panel, visits)


def _live_tab(desk: Handlers, visits: Sessions, examples: Examples, model: gr.Dropdown) -> None:
    hint = "Give a portrait, then record: it talks with you, about a second behind."
    with gr.Row():
        with gr.Column(scale=5):
            image = portrait_input(examples.portraits, "live")
            audio = gr.Audio(
                label="Microphone", sources=["microphone"], streaming=True, type="filepath",
                elem_id="live-microphone", buttons=[],
            )  # fmt: skip
            pictures = look_inputs(desk.mark)
        with gr.Column(scale=6):
            status = gr.HTML(theme.hint(hint), elem_id="live-status")
            stage = gr.HTML(theme.live(None, "…"), elem_id="live-stage")
            video = gr.Video(
                show_label=False, interactive=False, visible=False, elem_id="live-video",
                elem_classes="gj-video", buttons=[],
            )  # fmt: skip

    def begin(request: gr.Request):
        visits.of(request).stop()
        return theme.hint("Loading the model …"), gr.update(visible=True), gr.update(visible=False)

    def listen(request: gr.Request, name, image, chunk, *chosen):
        try:
            live = desk.listen(visits.of(request), name, image, chunk, chosen)
        except InputError as error:
            return theme.error(str(error)), gr.skip()
        film = live.next_frames()
        heard, shown = live.seconds
        words = f"{heard:.1f} s heard, {shown:.1f} s shown."
        return theme.hint(words), theme.live(film) if film else gr.skip()

    def finish(request: gr.Request):
        yield from _finish(visits.of(request))

    outputs = [status, stage]
    seen = {"show_progress": "hidden", **RAW}
    audio.start_recording(begin, None, [*outputs, video], queue=False, **seen)
    audio.stream(
        listen, [model, image, audio, *pictures], outputs, stream_every=_STREAM_EVERY_SEC,
        time_limit=desk.max_sec, concurrency_limit=4, **seen,
    )  # fmt: skip
    audio.stop_recording(finish, None, [*outputs, video], **seen)


def _finish(visit):
    """The frames that are still to come, and the video."""
    live = visit.live
    if live is None:
        yield gr.skip(), gr.skip(), gr.skip()
        return
    try:
        for heard, shown in live.finish():
            film = live.next_frames()
            words = f"{heard:.1f} s heard, {shown:.1f} s shown; finishing …"
            yield theme.hint(words), theme.live(film) if film else gr.skip(), gr.skip()
        path = visit.new_file("live.mp4")
        live.write(path)
        told = theme.done("Done.", live.notices)
        yield told, gr.update(visible=False), gr.update(value=path, visible=True)
    except InputError as error:
        yield theme.error(str(error)), gr.skip(), gr.skip()
    finally:
        if visit.live is live:
            visit.live = None


def _buttons(label: str, key: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        go = gr.Button(label, variant="primary", scale=3, elem_id=f"{key}-go")
        cancel = gr.Button("Cancel", scale=1, elem_id=f"{key}-cancel")
    return go, cancel


def _connect(go, cancel, run, inputs: list, panel: Panel, visits: Sessions) -> None:
    """A button that works, and one that stops it, also where it still waits in the line."""
    event = go.click(run, inputs, panel.outputs, show_progress="hidden", **MODEL_LINE, **RAW)

    def stop(request: gr.Request):
        visits.of(request).stop()
        return theme.hint("Cancelled.")

    cancel.click(
        stop, None, panel.status, cancels=[event], queue=False, show_progress="hidden", **RAW
    )
