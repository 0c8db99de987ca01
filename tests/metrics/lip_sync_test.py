"""LSE-D and LSE-C: the scores by hand, and windows of faces and speech."""

import numpy as np
import pytest

from gesture_jax.metrics import lip_sync
from gesture_jax.pretrained import syncnet_weights
from tests import syncnet_file

_RANDOM = np.random.default_rng(0)
_PATH = 3.0 * _RANDOM.standard_normal((60, 8)).astype(np.float32)


def test_equal_embeddings_have_no_distance_and_no_lag():
    scores = lip_sync.sync_scores(_PATH, _PATH)
    assert tuple(scores) == lip_sync.NAMES
    assert scores["lse_d"] == pytest.approx(0, abs=1e-4) and scores["lse_lag_ms"] == 0
    others = lip_sync.sync_scores(_PATH, 3.0 * _RANDOM.standard_normal(_PATH.shape))
    assert scores["lse_c"] > 8 > 2 > others["lse_c"] > 0 and others["lse_d"] > 8


@pytest.mark.parametrize("shift", [-5, 3])
def test_the_lag_is_that_of_the_mouth(shift):
    """Embeddings of the sound that come 3 frames later belong to a mouth that is early."""
    late = np.roll(_PATH, shift, axis=0)
    assert lip_sync.sync_scores(_PATH, late)["lse_lag_ms"] == -40 * shift
    assert lip_sync.sync_scores(late, _PATH)["lse_lag_ms"] == 40 * shift


def test_scores_of_two_frames_by_hand():
    """All shifts beyond one frame compare with zeros only."""
    video, audio = np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 5.0]])
    # Shifts by -1, 0 and 1 frames compare with (0, first), (first, second), (second, 0).
    means = [(5 + 0) / 2, (18**0.5 + 4) / 2, (10**0.5 + 1) / 2]
    scores = lip_sync.sync_scores(video, audio)
    assert scores["lse_d"] == pytest.approx(min(means), abs=1e-4)
    assert scores["lse_c"] == pytest.approx((5 + 1) / 2 - min(means), abs=1e-4)
    assert scores["lse_lag_ms"] == -40
    nothing = np.zeros((0, 2))
    assert np.isnan(list(lip_sync.sync_scores(video, nothing).values())).all()


@pytest.fixture(scope="module")
def variables():
    return syncnet_weights.syncnet_variables(syncnet_file.state_dict(counts=True))


def test_faces_and_speech_are_embedded_in_windows_that_begin_together(variables):
    faces = _RANDOM.integers(0, 256, (8, 224, 224, 3)).astype(np.uint8)
    video = lip_sync.embed_video(variables, iter(faces))
    assert video.shape == (3, 1024) and video.dtype == np.float32
    np.testing.assert_allclose(
        lip_sync.embed_video(variables, faces[1:]), video[1:], rtol=1e-3, atol=1e-3
    )
    sound = 0.1 * _RANDOM.standard_normal(8 * 640).astype(np.float32)
    audio = lip_sync.embed_audio(variables, sound)
    assert audio.shape == (3, 1024)
    # The first sample has no predecessor in the pre-emphasis, which changes one step of ten.
    later = lip_sync.embed_audio(variables, np.pad(sound, (2 * 640, 0)))
    assert later.shape == (5, 1024)
    np.testing.assert_allclose(later[3:], audio[1:], rtol=1e-3, atol=1e-3)
    assert np.abs(later[:3] - audio).max() > 0.1


@pytest.mark.parametrize("frames", [0, 4, 5])
def test_short_clips_have_no_embeddings(variables, frames):
    assert not len(lip_sync.embed_video(variables, np.zeros((frames, 224, 224, 3), np.uint8)))
    assert not len(lip_sync.embed_audio(variables, np.zeros(frames * 640, np.float32)))
