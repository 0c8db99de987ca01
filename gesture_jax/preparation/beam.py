"""Processes takes with Apache Beam (extra `[beam]`), for corpora beyond one machine."""

import pathlib
from collections.abc import Sequence

from gesture_jax.errors import InputError
from gesture_jax.preparation.parts import Take, make_part


def make_parts(parts_dir: pathlib.Path, takes: Sequence[Take], *, beam_args: Sequence[str]) -> None:
    """Makes the missing parts, each by one call of `parts.make_part` on some worker.

    Args:
      parts_dir: folder of the parts; all workers must be able to access it and the recordings.
      takes: all takes of the data set, done or not.
      beam_args: Beam's own flags, such as `["--runner=DataflowRunner", "--project=P"]`; by
        default Beam's local runner is used.

    Raises:
      InputError: where Beam is not installed.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError(
            'Apache Beam is not installed; `pip install "gesture_jax[beam]"` brings it, or leave '
            "--runner=beam out"
        ) from None
    with apache_beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
        _ = (
            pipeline
            | apache_beam.Create(list(takes))
            | apache_beam.Reshuffle()  # Otherwise the runner may fuse all takes into one bundle.
            | apache_beam.Map(_make_part, parts_dir)
        )


def _make_part(take, parts_dir):
    """Calls `make_part`; has no type hints, as Beam checks them by `issubclass`."""
    make_part(parts_dir, take)
