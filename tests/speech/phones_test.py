"""Phones of speech: names, files, and PocketSphinx on real speech where both are there."""

import itertools
import json
import pathlib

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.media.sound import read_audio
from gesture_jax.speech import phones
from gesture_jax.speech.phones import Phone

_SPEECH = pathlib.Path(__file__).parents[3] / "shared" / "data" / "speech" / "003.wav"


@pytest.mark.parametrize("name", ["P", "b", "M", "ˈm", "pʰ", "mː", "b:"])
def test_bilabials_have_many_spellings(name):
    assert Phone(name, 0, 1).is_bilabial and not Phone(name, 0, 1).is_silence


@pytest.mark.parametrize("name", ["F", "AA1", "W", "mj", "SIL", ""])
def test_other_phones_are_no_bilabials(name):
    assert not Phone(name, 0, 1).is_bilabial


@pytest.mark.parametrize("name", ["SIL", "sil", "sp", "_", "_:", "", "+NSN+"])
def test_silence_has_many_spellings(name):
    assert Phone(name, 0, 1).is_silence


def test_phones_are_read_from_both_kinds_of_files_in_order(tmp_path):
    expected = [Phone("m", 0.25, 0.5), Phone("AA1", 0.5, 0.75)]
    assert expected[0].middle_sec == 0.375
    path = tmp_path / "a.csv"
    path.write_text("phone,start,end\r\nAA1,0.5,0.75\r\nm,0.25,0.5\r\n")
    assert phones.read_phones(path) == expected
    path = tmp_path / "a.json"
    rows = [{"phone": p.name, "start": p.start_sec, "end": p.end_sec} for p in expected[::-1]]
    path.write_text(json.dumps(rows))
    assert phones.read_phones(path) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "7"),
        ("a.json", '{"phone": "B"}'),
        ("a.json", '[{"phone": "B", "start": 0}]'),
        ("a.json", '[{"phone": "B", "start": 2, "end": 1}]'),
        ("a.json", '[{"phone": "B", "start": 0, "end": Infinity}]'),
        ("a.csv", "start,end\n0,1\n"),
        ("a.csv", "phone,start,end\nB,0\n"),
        ("a.csv", "phone,start,end\nB,0,now\n"),
    ],
)
def test_other_files_are_refused(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=rf"{name}: holds no phones .*`phone`, `start` and `end`"):
        phones.read_phones(path)
    with pytest.raises(InputError, match=r"b.csv: no such file"):
        phones.read_phones(tmp_path / "b.csv")


def _bilabials(found):
    return np.array([phone.middle_sec for phone in found if phone.is_bilabial])


def test_phones_of_english_follow_each_other_and_have_their_names():
    pytest.importorskip("pocketsphinx")
    if not _SPEECH.is_file():
        pytest.skip("needs real speech")
    found = phones.find_phones(read_audio(_SPEECH, stop_sec=6.0))
    assert {"AH", "T", "SIL"} < {phone.name for phone in found}
    assert len(_bilabials(found)) >= 2
    assert all(one.end_sec <= other.start_sec for one, other in itertools.pairwise(found))
    assert found[0].start_sec >= 0 and 5.0 < found[-1].end_sec <= 6.03


def test_long_speech_is_cut_at_quiet_moments():
    quiet_sec = 13.0, 25.3
    sound = np.random.default_rng(0).standard_normal(50 * 16_000).astype(np.float32)
    for start in quiet_sec:
        sound[round(start * 16_000) : round((start + 0.3) * 16_000)] *= 0.01
    starts, pieces = zip(*phones._cut(sound), strict=True)
    np.testing.assert_array_equal(np.concatenate(pieces), sound)
    assert max(map(len, pieces)) <= 20 * 16_000
    assert starts[0] == 0 and len(starts) == 4
    for start, quiet in zip(starts[1:], quiet_sec, strict=False):
        assert quiet < start < quiet + 0.3
    assert len(list(phones._cut(sound[: 20 * 16_000]))) == 1


def test_silence_and_short_noise_have_no_bilabials():
    pytest.importorskip("pocketsphinx")
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    for sound in (np.zeros(0, np.float32), np.zeros(16_000, np.float32), noise):
        assert not len(_bilabials(phones.find_phones(sound)))
