"""A stream in which both people speak: time, sound, listening, and interruptions."""

import threading

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.procedural import speaker
from gesture_jax.speech.extractor import SpeechFeatureExtractor
from gesture_jax.speech.log_mel import NUM_FEATURES
from tests import compilations
from tests.inference.generator_test import make_generator

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_SCHEDULE = {"hop": 5, "look_ahead": 0, "blend": 3, "candidates": 1}
_RATE = 16_000


@pytest.fixture(scope="module")
def generator():
    return make_generator(feature_extractor=SpeechFeatureExtractor("mel"), speech_dim=NUM_FEATURES)


@pytest.fixture(scope="module")
def baseline_generator():
    return make_generator()


@pytest.fixture(scope="module")
def portrait():
    return speaker.portrait(identity=0, size=32)


@pytest.fixture(scope="module")
def voice():
    return speaker.perform(identity=0, seed=1, duration_sec=6, size=16).audio


def _open(generator, portrait, *, voice_activity="silero", **how):
    options = generator.options(stream_schedule=_SCHEDULE, voice_activity=voice_activity)
    return generator.stream(portrait, options=options, seed=2, **how)


def test_the_first_frames_compile_nothing(generator, portrait, voice):
    """This test comes first: the others compile the same programs."""
    before = set(threading.enumerate())
    stream = _open(generator, portrait)
    for thread in set(threading.enumerate()) - before:
        thread.join()
    with compilations.recorded() as compiled:
        assert len(stream.push(voice[:3200])) == 5
    assert not compiled


def test_the_first_frame_comes_after_a_fifth_of_a_second_despite_the_gate(
    generator, portrait, voice
):
    stream = _open(generator, portrait)
    assert len(stream.push(voice[:3199])) == 0
    assert len(stream.push(voice[3199:3200])) == 5


def test_idle_returns_frames_of_that_length(generator, portrait):
    stream = _open(generator, portrait)
    assert len(stream.idle(0.5)) == 10 and len(stream.idle(0.1)) == 5
    assert len(stream.idle(0)) == 0 and len(stream.finish()) == 0
    stream = _open(generator, portrait)
    assert len(stream.idle(0.3)) == 5 and len(stream.finish()) == 3


def test_a_mix_of_calls_does_not_depend_on_chunks(generator, portrait, voice):
    def run(chunk):
        stream, frames, sounds = _open(generator, portrait), [], []
        for call, sound in (
            (stream.push, voice[:20_000]),
            (stream.listen, voice[20_000:45_000]),
            (stream.listen, np.zeros(9_000)),
            (stream.push, voice[50_000:70_000]),
        ):
            for start in range(0, len(sound), chunk):
                frames.append(call(sound[start : start + chunk]))
                sounds.append(stream.sound)
        return np.concatenate([*frames, stream.finish()]), np.concatenate([*sounds, stream.sound])

    frames, sound = run(80_000)
    other_frames, other_sound = run(700)
    np.testing.assert_array_equal(frames, other_frames)
    np.testing.assert_array_equal(sound, other_sound)
    spoken = np.concatenate([voice[:20_000], np.zeros(34_000), voice[50_000:70_000]])
    assert len(frames) == round(len(spoken) / 640) and len(sound) == 640 * len(frames)
    np.testing.assert_array_equal(sound[: len(spoken)], spoken[: len(sound)])


def test_idle_is_listening_to_silence(generator, portrait, voice):
    def run(be_silent):
        stream = _open(generator, portrait)
        return np.concatenate([stream.push(voice[:16_000]), be_silent(stream), stream.finish()])

    np.testing.assert_array_equal(
        run(lambda stream: stream.idle(1.0)), run(lambda stream: stream.listen(np.zeros(16_000)))
    )


def test_the_other_person_is_noticed_in_causal_features_alone(
    generator, baseline_generator, portrait, voice
):
    for made, is_noticed in ((generator, True), (baseline_generator, False)):
        silent, listening = _open(made, portrait), _open(made, portrait)
        frames = np.concatenate([silent.idle(4.0), silent.finish()])
        attentive = np.concatenate([listening.listen(voice[:64_000]), listening.finish()])
        assert np.array_equal(frames, attentive) != is_noticed
        assert not listening.sound.any()


def test_music_is_like_silence_unless_the_gate_is_off(generator, portrait):
    time = np.arange(3 * _RATE) / _RATE
    chord = sum(np.sin(2 * np.pi * hz * time) for hz in (220, 277, 330)) * np.exp(-2 * (time % 1))
    for voice_activity, is_same in (("silero", True), ("off", False)):
        stream = _open(generator, portrait, voice_activity=voice_activity)
        silent = _open(generator, portrait, voice_activity=voice_activity)
        assert np.array_equal(stream.push(0.1 * chord), silent.idle(3.0)) == is_same


@pytest.mark.parametrize(("sample_rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 1)])
def test_time_adds_up_after_any_mix_of_calls(generator, portrait, sample_rate, channels):
    random = np.random.default_rng(channels)
    stream = _open(generator, portrait, sample_rate=sample_rate, voice_activity="energy")
    given_sec = dropped_sec = num_frames = num_samples = 0
    calls = random.choice(["push", "listen", "idle", "interrupt"], 40, p=[0.4, 0.25, 0.2, 0.15])
    for call in calls:
        if call == "interrupt":
            dropped = stream.interrupt()
            assert 0 <= dropped < 0.3
            dropped_sec += dropped
            assert given_sec - dropped_sec == pytest.approx(num_frames / 25, abs=1e-6)
            continue
        count = int(random.integers(1, sample_rate // 2))
        if call == "idle":
            frames = stream.idle(count / sample_rate)
        else:
            frames = getattr(stream, call)(0.1 * random.standard_normal((count, channels)))
        given_sec += count / sample_rate
        num_frames, num_samples = num_frames + len(frames), num_samples + len(stream.sound)
        assert num_samples == num_frames * 640
        # No more than a hop, a block of the gate and the delays of mixer and resampler are waiting.
        assert 0 <= given_sec - dropped_sec - num_frames / 25 < 0.46
    num_frames += len(stream.finish())
    assert num_frames == pytest.approx(25 * (given_sec - dropped_sec), abs=0.6)
    assert num_samples + len(stream.sound) == num_frames * 640


def test_interrupting_drops_what_is_not_in_frames_yet(baseline_generator, portrait, voice):
    """With 10 frames of look-ahead and 5 of the features, more speech is waiting."""
    stream = baseline_generator.stream(portrait)
    frames = stream.push(voice[: 40 * 640])
    assert stream.interrupt() == pytest.approx((40 - len(frames)) / 25)
    assert stream.interrupt() == 0.0
    assert len(stream.push(voice[: 25 * 640])) == 10  # As at the start of a stream.
    np.testing.assert_array_equal(stream.sound, voice[: 10 * 640])


def _distances(generator, portrait, frames):
    """How far each frame is from the portrait at rest."""
    own = generator.animator.encode_source(portrait)
    still = 255 * generator.animator.render(own, own.motion[None])[0]
    return np.abs(frames - still).mean(axis=(1, 2, 3))


def test_an_interrupted_stream_rests_within_ten_frames_without_a_jump(generator, portrait, voice):
    """An untrained network does not come to rest by itself."""
    stream, uninterrupted = _open(generator, portrait), _open(generator, portrait)
    before = stream.push(voice[:48_000]).astype(float)
    stream.interrupt()
    after = stream.idle(1.4).astype(float)
    uninterrupted.push(voice[:48_000])
    moving = uninterrupted.idle(1.4).astype(float)
    usual = np.median(_distances(generator, portrait, before[20:]))
    assert _distances(generator, portrait, after[10:]).max() < 0.35 * usual
    assert _distances(generator, portrait, moving[10:]).mean() > 0.6 * usual
    steps = lambda frames: np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)).max()
    assert steps(np.concatenate([before[-1:], after])) <= 1.2 * steps(before)
    again = stream.push(voice[:48_000]).astype(float)
    assert _distances(generator, portrait, again[20:]).mean() > 0.6 * usual


def test_calls_with_wrong_arguments(generator, portrait):
    stream = _open(generator, portrait)
    for sec in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="has to be 0 seconds or more"):
            stream.idle(sec)
    stream.listen(np.zeros((100, 2)))
    with pytest.raises(InputError, match="1 channels follows sound of 2"):
        stream.listen(np.zeros(100))
    stream.push(np.zeros(100))  # The portrait's own sound may have other channels.
    stream.finish()
    for call in (
        lambda: stream.listen(np.zeros(9)), lambda: stream.idle(1), stream.interrupt, stream.finish,
    ):  # fmt: skip
        with pytest.raises(InputError, match="this stream is finished"):
            call()
