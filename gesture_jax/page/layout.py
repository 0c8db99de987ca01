"""The page: four tabs, and one model for those that make videos."""

import gradio as gr

from gesture_jax.errors import InputError
from gesture_jax.page import theme
from gesture_jax.page.components import (
    MODEL_QUEUE,
    RAW,
    Panel,
    number_inputs,
    portrait_input,
    style_inputs,
)
from gesture_jax.page.examples import Examples
from gesture_jax.page.handlers import Handlers
from gesture_jax.page.jobs import Cancelled, Finished
from gesture_jax.page.sessions import Sessions

# The browser sends a chunk of sound, and gets new frames, this often.
_STREAM_EVERY_SEC = 0.5


def build(
    handlers: Handlers, sessions: Sessions, examples: Examples, *, delete_after_sec: int
) -> gr.Blocks:
    """Builds the page."""
    with gr.Blocks(
        title=theme.TITLE, analytics_enabled=False, delete_cache=(60, delete_after_sec)
    ) as page:
        gr.HTML(theme.HEADER)
        names = handlers.models.names
        model = gr.Dropdown(
            names, value=names[0], label="Model", elem_id="model",
            info="Models differ in their training data and in the size of their frames.",
        )  # fmt: skip
        with gr.Tabs():
            with gr.Tab("Talk", id="talk"):
                set_to, controls = _talk_tab(handlers, sessions, examples, model)
            with gr.Tab("Animate", id="animate"):
                _animate_tab(handlers, sessions, examples, model)
            with gr.Tab("Live", id="live"):
                _live_tab(handlers, sessions, examples, model)
            with gr.Tab("Avatar", id="avatar"):
                _avatar_tab(handlers, sessions)
        set_controls = lambda name: set_to(handlers.models.config(name))
        model.change(set_controls, model, controls, queue=False, show_progress="hidden", **RAW)

        def leave(request: gr.Request):
            sessions.end(request)

        page.unload(leave)
    return page


def lasting_files(page: gr.Blocks) -> set[str]:
    """The files of the page's examples, which all visitors share."""
    return set().union(*(getattr(b, "keep_in_cache", ()) for b in page.blocks.values()))


def _talk_tab(handlers: Handlers, sessions: Sessions, examples: Examples, model: gr.Dropdown):
    with gr.Row():
        with gr.Column(scale=5):
            portrait = portrait_input(examples.portraits, "talk")
            audio = gr.Audio(
                label="Speech", sources=["upload", "microphone"], type="filepath",
                elem_id="talk-speech", buttons=[],
            )  # fmt: skip
            voices = [f"Voice {number + 1}" for number in range(len(examples.speeches))]
            gr.Examples(
                [[path] for path in examples.speeches], [audio], label="Synthetic voices",
                example_labels=voices,
            )  # fmt: skip
            pictures = style_inputs(handlers.watermark)
            controls, set_to = number_inputs(handlers.models.config(handlers.models.names[0]))
        with gr.Column(scale=6):
            go, cancel = _buttons("Generate", "talk")
            panel = Panel.build("talk", "Give a portrait and speech, then press Generate.")

    def talk(request: gr.Request, name, image, avatar, audio, crop, paste, watermark, *values):
        session, style = sessions.of(request), (crop, paste, watermark)
        yield from panel.follow(
            lambda: handlers.talk(session, name, (image, avatar), audio, style, *values)
        )

    inputs = [model, *portrait, audio, *pictures, *controls]
    _connect(go, cancel, talk, inputs, panel, sessions)
    return set_to, controls[1:]


def _animate_tab(
    handlers: Handlers, sessions: Sessions, examples: Examples, model: gr.Dropdown
) -> None:
    with gr.Row():
        with gr.Column(scale=5):
            portrait = portrait_input(examples.portraits, "animate")
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
            pictures = style_inputs(handlers.watermark)
        with gr.Column(scale=6):
            go, cancel = _buttons("Animate", "animate")
            panel = Panel.build(
                "animate", "Give a portrait and a video that the motion is taken from."
            )

    def animate(request: gr.Request, name, image, avatar, driving, relative, beside, *style):
        session, portrait = sessions.of(request), (image, avatar)
        yield from panel.follow(
            lambda: handlers.animate(session, name, portrait, driving, style, relative, beside)
        )

    inputs = [model, *portrait, driving, relative, side_by_side, *pictures]
    _connect(go, cancel, animate, inputs, panel, sessions)


def _live_tab(
    handlers: Handlers, sessions: Sessions, examples: Examples, model: gr.Dropdown
) -> None:
    hint = "Give a portrait, then record: it talks with you, about a second behind."
    with gr.Row():
        with gr.Column(scale=5):
            portrait = portrait_input(examples.portraits, "live")
            audio = gr.Audio(
                label="Microphone", sources=["microphone"], streaming=True, type="filepath",
                elem_id="live-microphone", buttons=[],
            )  # fmt: skip
            pictures = style_inputs(handlers.watermark)
        with gr.Column(scale=6):
            status = gr.HTML(theme.hint(hint), elem_id="live-status")
            stage = gr.HTML(theme.live(None, "…"), elem_id="live-stage")
            video = gr.Video(
                show_label=False, interactive=False, visible=False, elem_id="live-video",
                elem_classes="gj-video", buttons=[],
            )  # fmt: skip

    def begin(request: gr.Request):
        sessions.of(request).stop()
        return theme.hint("Loading the model …"), gr.update(visible=True), gr.update(visible=False)

    def listen(request: gr.Request, name, image, avatar, chunk, *style):
        try:
            live = handlers.listen(sessions.of(request), name, (image, avatar), chunk, style)
        except InputError as error:
            return theme.error(str(error)), gr.skip()
        animation = live.next_frames()
        heard, shown = live.seconds
        words = f"{heard:.1f} s heard, {shown:.1f} s shown."
        return theme.hint(words), theme.live(animation) if animation else gr.skip()

    def finish(request: gr.Request):
        yield from _finish(sessions.of(request))

    outputs = [status, stage]
    seen = {"show_progress": "hidden", **RAW}
    audio.start_recording(begin, None, [*outputs, video], queue=False, **seen)
    audio.stream(
        listen, [model, *portrait, audio, *pictures], outputs, stream_every=_STREAM_EVERY_SEC,
        time_limit=handlers.max_sec, concurrency_limit=4, **seen,
    )  # fmt: skip
    audio.stop_recording(finish, None, [*outputs, video], **seen)


def _avatar_tab(handlers: Handlers, sessions: Sessions) -> None:
    hint = (
        "Give a portrait (some minutes) or a video of one person who talks (up to an hour). The "
        "result is one file, which the other tabs and the commands take in place of a portrait."
    )
    with gr.Row():
        with gr.Column(scale=5):
            image = gr.Image(
                label="Portrait", sources=["upload", "webcam", "clipboard"], type="filepath",
                height=260, elem_id="avatar-portrait", buttons=[],
            )  # fmt: skip
            video = gr.Video(
                label="Or a video of 10 s or more", sources=["upload", "webcam"], height=260,
                elem_id="avatar-video", buttons=[],
            )  # fmt: skip
            consent = gr.Checkbox(
                False, label="I have consent", elem_id="avatar-consent",
                info="The person who is shown agreed to become an avatar that says what others "
                "make it say. The time is kept in the file.",
            )  # fmt: skip
        with gr.Column(scale=6):
            go, cancel = _buttons("Make avatar", "avatar")
            status = gr.HTML(theme.hint(hint), elem_id="avatar-status")
            file = gr.DownloadButton("Avatar", visible=False, elem_id="avatar-download")

    def make(request: gr.Request, image, video, consent):
        hidden = gr.update(visible=False, value=None)
        try:
            for update in handlers.personalize(sessions.of(request), image, video, consent):
                if isinstance(update, Finished):
                    yield theme.done("Done.", []), gr.update(value=update.result, visible=True)
                else:
                    yield theme.working(update), hidden
        except InputError as error:
            yield theme.error(str(error)), hidden
        except Cancelled:
            yield theme.hint("Cancelled."), hidden

    event = go.click(
        make, [image, video, consent], [status, file], show_progress="hidden", **MODEL_QUEUE, **RAW
    )
    _connect_cancel(cancel, event, status, sessions)


def _finish(session):
    """Yields the frames that are still to come, and in the end the video."""
    live = session.live
    if live is None:
        yield gr.skip(), gr.skip(), gr.skip()
        return
    try:
        for heard, shown in live.finish():
            animation = live.next_frames()
            words = f"{heard:.1f} s heard, {shown:.1f} s shown; finishing …"
            yield theme.hint(words), theme.live(animation) if animation else gr.skip(), gr.skip()
        path = session.new_file("live.mp4")
        live.write(path)
        done = theme.done("Done.", live.notices)
        yield done, gr.update(visible=False), gr.update(value=path, visible=True)
    except InputError as error:
        yield theme.error(str(error)), gr.skip(), gr.skip()
    finally:
        if session.live is live:
            session.live = None


def _buttons(label: str, key: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        go = gr.Button(label, variant="primary", scale=3, elem_id=f"{key}-go")
        cancel = gr.Button("Cancel", scale=1, elem_id=f"{key}-cancel")
    return go, cancel


def _connect(go, cancel, run, inputs: list, panel: Panel, sessions: Sessions) -> None:
    """Connects the button that starts the work, and the one that cancels it, also in the queue."""
    event = go.click(run, inputs, panel.outputs, show_progress="hidden", **MODEL_QUEUE, **RAW)
    _connect_cancel(cancel, event, panel.status, sessions)


def _connect_cancel(cancel, event, status, sessions: Sessions) -> None:
    """Connects the button that cancels the work of an event."""

    def stop(request: gr.Request):
        sessions.of(request).stop()
        return theme.hint("Cancelled.")

    cancel.click(stop, None, status, cancels=[event], queue=False, show_progress="hidden", **RAW)
