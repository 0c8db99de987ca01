"""Serves the page."""

import os
import warnings
from collections.abc import Sequence

from gesture_jax.errors import InputError
from gesture_jax.storage.files import lasting_folder, remove_folder

_MAX_FILE_SIZE = "64mb"
# People who wait for the models; more are told to come again.
_LONGEST_LINE = 32
_DELETE_AFTER_SEC = 3600


def serve(
    models: Sequence,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    max_sec: float = 60.0,
    mark: str | None = None,
) -> None:
    """Serves until interrupted or told to end; visitors' files go then.

    Args:
      models: `models.NamedModel`s, of different names.
      host: the address to listen on; only this machine by default.
      port: by default the first free one from 7860.
      share: also makes a public address, through Gradio's servers.
      max_sec: longest speech or driving video that is taken.
      mark: the watermark's text that every video gets, "" for the usual one; None leaves it to
        visitors.

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

    desk = Handlers(ModelCache(models), max_sec, mark)
    desk.style("center", False, False)  # Which refuses a bad watermark.
    visits = Sessions(folder, lambda: layout.lasting_files(page))
    examples = draw_examples(folder / "examples")
    page = layout.build(desk, visits, examples, delete_after_sec=_DELETE_AFTER_SEC)
    page.queue(max_size=_LONGEST_LINE, api_open=False)
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
        visits.stop()  # The process ends only when nothing is under way.
        remove_folder(folder)


def _prepare_gradio(folder: str) -> None:
    """Nothing of it leaves this machine unasked, and its files go when the page does."""
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        with warnings.catch_warnings(action="ignore"):  # pydub's, that there is no ffmpeg.
            import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(
            f'the page needs Gradio ({error}); `pip install "gesture_jax[app]"` brings it'
        ) from error
