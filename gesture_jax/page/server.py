"""Serves the web page."""

import os
import warnings
from collections.abc import Sequence

from gesture_jax.errors import InputError
from gesture_jax.storage.files import lasting_folder, remove_folder

_MAX_FILE_SIZE = "64mb"
# Visitors who may wait for the models; others are asked to try again.
_MAX_QUEUE = 32
_DELETE_AFTER_SEC = 3600


def serve(
    models: Sequence,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    max_sec: float = 60.0,
    watermark: str | None = None,
) -> None:
    """Serves until a signal ends the process; visitors' files are removed then.

    Args:
      models: `model_cache.NamedModel`s with different names.
      host: the address to listen on; by default only this machine can open the page.
      port: by default the first free one from 7860.
      share: whether to open a public address through Gradio's servers.
      max_sec: longest speech or driving video that is accepted.
      watermark: the text on every video, "" for the default text; None leaves it to visitors.

    Raises:
      InputError: where the extra `[app]` is not installed, or the port is taken.
    """
    folder = lasting_folder()
    _prepare_gradio(str(folder))
    from gesture_jax.page import layout, theme
    from gesture_jax.page.examples import draw_examples
    from gesture_jax.page.handlers import Handlers
    from gesture_jax.page.model_cache import ModelCache
    from gesture_jax.page.sessions import Sessions

    handlers = Handlers(ModelCache(models), max_sec, watermark)
    handlers.style("center", False, False)  # Raises where the watermark cannot be drawn.
    sessions = Sessions(folder, lambda: layout.lasting_files(page))
    examples = draw_examples(folder / "examples")
    page = layout.build(handlers, sessions, examples, delete_after_sec=_DELETE_AFTER_SEC)
    page.queue(max_size=_MAX_QUEUE, api_open=False)
    try:
        page.launch(
            server_name=host, server_port=port, share=share, max_file_size=_MAX_FILE_SIZE,
            theme=theme.theme(), css=theme.CSS, footer_links=[], quiet=False, ssr_mode=False,
            enable_monitoring=False, prevent_thread_lock=False, show_error=False,
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"--host={host} --port={port}: cannot be listened on; give others"
        ) from error
    finally:
        sessions.stop()  # Threads at work would keep the process alive.
        remove_folder(folder)


def _prepare_gradio(folder: str) -> None:
    """Imports Gradio without telemetry, with its files in a folder that is removed at the end."""
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        with warnings.catch_warnings(action="ignore"):  # pydub warns that there is no ffmpeg.
            import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(
            f'the page needs Gradio ({error}); install it with `pip install "gesture_jax[app]"`'
        ) from error
