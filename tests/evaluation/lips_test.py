"""Lips of videos against their speech.

The brightness of a frame stands for the opening of the mouth, and a black frame for one without a
face; a finder that reads it replaces the face model.
"""

import contextlib
import csv

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.evaluation import lips
from gesture_jax.evaluation.lips import LipOptions
from gesture_jax.media.writer import write_video
from gesture_jax.people import faces
from gesture_jax.speech import phones
from gesture_jax.speech.phones import Phone
from tests import syncnet_file, torch_file

_RATE, _FRAMES = 16_000, 150


@pytest.fixture(autouse=True)
def finder(monkeypatch):
    def find(picture):
        brightness = float(picture.mean()) / 255
        if brightness < 0.1:
            return None
        return faces.Face((8.0, 8.0, 24.0, 24.0), np.zeros((5, 2), np.float32), brightness)

    monkeypatch.setattr(faces, "open_finder", lambda: contextlib.nullcontext(find))


def _write(path, seed, *, sound=True, face=True, frames=_FRAMES):
    """A clip whose mouth follows the loudness, with /b/ where it is closed; writes its phones."""
    random = np.random.default_rng(seed)
    opening = np.repeat(random.permutation([0.2, 0.4, 0.6, 0.8, 1.0, 0.4]), 5)
    opening = np.resize(np.concatenate([random.permutation(opening[::5]) for _ in "12345"]), 30)
    opening = np.repeat(opening, 5)[:frames]
    samples = np.arange(frames * _RATE // 25) / _RATE
    loudness = np.interp(samples, np.arange(frames) / 25, opening - 0.15)
    audio = (0.2 * loudness * random.standard_normal(len(samples))).astype(np.float32)
    pictures = np.full((frames, 32, 32, 3), 255 * opening[:, None, None, None] * face, np.uint8)
    write_video(path, pictures, audio=audio if sound else None, crf=0)
    rows = [
        Phone("B" if opening[start] == 0.2 else "AA", start / 25, (start + 5) / 25)
        for start in range(0, frames, 5)
    ]
    with path.with_suffix(".csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerows([("phone", "start", "end"), *rows])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(3):
        _write(folder / f"clip{seed}.mp4", seed)
    _write(folder / "mute.mp4", 3, sound=False)
    _write(folder / "empty.mp4", 4, face=False)
    return folder


def _paths(folder, pattern="*.mp4"):
    return sorted(folder.glob(pattern))


def test_lips_that_follow_their_speech_score_well_and_the_controls_do_not(folder):
    results = lips.score(_paths(folder), _paths(folder), LipOptions(phones=str(folder)))
    value = {name: score.value for name, score in results.scores.items()}
    assert value["lip_correlation"] > 0.8 and abs(value["lip_lag_ms"]) <= 40
    assert value["lip_closure"] == 1.0 and value["lip_closure_above_chance"] > 0.3
    for name in value:
        if not name.endswith("_real"):
            np.testing.assert_equal(value[name], value[f"{name}_real"])
    controls = {
        row: {name: score.value for name, score in scores.items()}
        for row, scores in results.controls.items()
    }
    assert controls["late sound"]["lip_lag_ms"] == pytest.approx(value["lip_lag_ms"] - 200, abs=20)
    assert controls["late sound"]["lip_closure_above_chance"] < 0.1
    assert controls["other speech"]["lip_correlation"] < 0.5
    assert controls["other speech"]["lip_closure"] < 0.7
    assert controls["still"]["lip_closure"] == 1.0
    assert controls["still"]["lip_closure_above_chance"] == 0.0


def test_clips_without_sound_or_a_face_are_left_out_by_name(folder):
    results = lips.score(_paths(folder), _paths(folder), LipOptions(phones=str(folder)))
    assert results.scores["lip_correlation"].count == 3 and set(results.clips) == {
        "clip0", "clip1", "clip2",
    }  # fmt: skip
    for side in ("real", "generated"):
        assert f"lips, {side}: mute left out: no sound" in results.notes
        assert any(
            note.startswith(f"lips, {side}: empty left out: fewer") for note in results.notes
        )
    nobody = lips.score(_paths(folder, "e*.mp4"), _paths(folder, "e*.mp4"), LipOptions())
    assert set(nobody.missing) == set(lips.METRICS) and not nobody.scores


def test_measures_without_their_files_say_how_to_get_them(folder, monkeypatch):
    monkeypatch.setattr(phones, "is_installed", lambda: False)
    results = lips.score(_paths(folder, "clip*.mp4"), _paths(folder, "clip*.mp4"), LipOptions())
    assert "pip install" in results.missing["lip_closure"]
    assert "--syncnet" in results.missing["lse_d"]
    assert "lip_closure" not in results.scores and "lip_correlation" in results.scores
    assert not results.missing.keys() & results.scores.keys()


def test_closure_counts_phones_and_not_clips(tmp_path):
    """Three /b/ of one clip have closed lips, the only one of the other has not."""
    _write(tmp_path / "a.mp4", 0)
    _write(tmp_path / "b.mp4", 1)
    first = phones.read_phones(tmp_path / "a.csv")
    closed = [phone for phone in first if phone.is_bilabial][:3]
    is_open = next(p for p in phones.read_phones(tmp_path / "b.csv") if not p.is_bilabial)
    for name, rows in {"a": closed, "b": [is_open._replace(name="P")]}.items():
        with (tmp_path / f"{name}.csv").open("w") as file:
            csv.writer(file).writerows([("phone", "start", "end"), *rows])
    results = lips.score([], _paths(tmp_path), LipOptions(phones=str(tmp_path)))
    assert results.scores["lip_closure"].value == 0.75
    assert results.protocol["lip_bilabials"] == {"real": 0, "generated": 4}


def test_a_video_without_its_file_of_phones_is_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"clip0.json: no such file, nor one that ends in .csv"):
        lips.score([], _paths(folder, "clip0.mp4"), LipOptions(phones=str(tmp_path)))


def test_lip_sync_is_scored_with_weights(tmp_path):
    _write(tmp_path / "a.mp4", 0, frames=8)
    arrays = syncnet_file.state_dict(counts=False)
    weights = {name: torch_file.Tensor(array) for name, array in arrays.items()}
    options = LipOptions(str(tmp_path), str(torch_file.save(weights, tmp_path / "sync.model")))
    results = lips.score([], _paths(tmp_path), options)
    assert results.scores["lse_d"].value > results.scores["lse_c"].value >= 0
    assert set(results.clips["a"]) == set(lips.METRICS)
    assert len(results.protocol["syncnet_sha256"]) == 64
    assert results.controls["late sound"]["lse_c"].count == 1
