"""A web page that makes portraits talk: `python -m gesture_jax.app`.

It offers the bundled models and those below `--workdirs`. Only this machine can open it, unless
`--host` or `--share` say otherwise. It needs the extra `[app]`.
"""

from absl import flags

from gesture_jax import cli

_WORKDIRS = cli.define_path(
    "workdirs", None, "Folder that holds workdirs of trained models, at any depth."
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 means all.")
_PORT = flags.DEFINE_integer(
    "port", None, "Port; by default the first free one from 7860.", 1, 65535
)
_SHARE = flags.DEFINE_boolean(
    "share", False, "Also open a public address through Gradio's servers."
)
_MAX_SEC = flags.DEFINE_float("max_sec", 60.0, "Longest speech or video, in seconds.", 1.0, 600.0)
cli.define_watermark()


def main(_) -> None:
    from gesture_jax.page import model_cache, server

    own = model_cache.find_models(_WORKDIRS.value) if _WORKDIRS.value else []
    server.serve(
        [*own, *model_cache.bundled_models()],
        host=_HOST.value,
        port=_PORT.value,
        share=_SHARE.value,
        max_sec=_MAX_SEC.value,
        watermark=flags.FLAGS.watermark,
    )


if __name__ == "__main__":
    cli.run(main)
