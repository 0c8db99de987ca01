"""Speech to frames, whole and streamed, with small untrained networks."""

import jax
import numpy as np
import pytest

from configs import stage1 as stage1_config
from configs import stage2 as stage2_config
from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.generator import GestureGenerator, count_frames, to_speech
from gesture_jax.models import motion_model
from gesture_jax.models.build import build_model
from gesture_jax.models.motion_space import unit_statistics
from gesture_jax.procedural import speaker
from gesture_jax.speech import log_mel
from gesture_jax.speech.extractor import SpeechFeatureExtractor

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_CHUNKS = [16, 1_000, 16_000, 80_000]


def make_generator(*, speakers=(), feature_extractor=None, speech_dim=35, num_lips=0):
    model = build_model(**stage1_config.get_config("smoke").model)
    image = np.zeros((1, 32, 32, 3), np.float32)
    animator = Animator(model, jax.jit(model.init)(jax.random.key(0), image, image))
    config = stage2_config.get_config("smoke")
    config.feature_dim, config.speech_dim = model.motion_dim, speech_dim
    config.speakers, config.num_lips = speakers, num_lips
    abstract = motion_model.abstract_variables(config)
    params = jax.jit(motion_model.build(config)[1].init_variables)(jax.random.key(0))["params"]
    statistics = unit_statistics(abstract["statistics"])
    if num_lips:  # Angles stay small, so that a vector can be told from its motion feature.
        for name in ("pose_std", "pose_reach"):
            statistics[name] *= 0.05
        random = np.random.default_rng(0).standard_normal(statistics["lip_motion"].shape)
        statistics["lip_motion"] = (0.3 * random).astype(np.float32)
    variables = {"params": params, "statistics": statistics}
    extractor = feature_extractor or SpeechFeatureExtractor()
    return GestureGenerator(animator, config, variables, extractor)


@pytest.fixture(scope="module")
def generator():
    return make_generator()


@pytest.fixture(scope="module")
def portrait():
    return speaker.portrait(identity=0, size=32)


@pytest.fixture(scope="module")
def audio():
    return speaker.perform(identity=0, seed=1, duration_sec=5.37, size=16).audio


def _stream(generator, portrait, audio, chunk, **options):
    stream = generator.stream(portrait, **options)
    parts = [stream.push(audio[i : i + chunk]) for i in range(0, len(audio), chunk)]
    return np.concatenate([*parts, stream.finish()])


def test_a_clip_is_as_long_as_the_speech_and_follows_the_seed(generator, portrait, audio):
    make = lambda seed: generator.generate(portrait, audio, 16_000, seed=seed)
    clip = make(0)
    assert clip.frames.shape == (count_frames(audio), 32, 32, 3) and clip.frames.dtype == np.uint8
    assert clip.motion.shape == (count_frames(audio), generator.animator.model.motion_dim)
    np.testing.assert_array_equal(clip.frames, make(0).frames)
    assert np.abs(clip.motion - make(1).motion).max() > 1e-3


def test_every_sample_of_the_speech_counts(generator, portrait, audio):
    """The last samples too, which the reference drops."""
    motion = generator.generate(portrait, audio, 16_000).motion
    for part in (slice(0, 8_000), slice(len(audio) - 8_000, None)):
        changed = audio.copy()
        changed[part] = 0.3 * np.random.default_rng(0).standard_normal(8_000)
        other = generator.generate(portrait, changed, 16_000).motion
        frames = slice(part.start // 640, None)
        assert np.abs(other[frames] - motion[frames]).max() > 1e-4


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_chunks_of_a_stream_do_not_matter(generator, portrait, audio, sample_rate):
    run = lambda chunk: _stream(generator, portrait, audio, chunk, sample_rate=sample_rate, seed=3)
    expected = run(len(audio))
    seconds = len(audio) / sample_rate
    assert abs(len(expected) - 25 * seconds) <= 1
    for chunk in _CHUNKS if sample_rate == 16_000 else _CHUNKS[1:2]:
        np.testing.assert_array_equal(run(chunk), expected)


def test_frames_come_as_soon_as_they_are_due(generator, portrait, audio):
    """A hop of 10 frames reads speech 10 frames ahead, and its features read 5 frames more."""
    stream = generator.stream(portrait)
    assert len(stream.push(audio[: 25 * 640 - 1])) == 0
    assert len(stream.push(audio[25 * 640 - 1 : 25 * 640])) == 10
    assert len(stream.push(audio[25 * 640 : 45 * 640])) == 20


@pytest.fixture(scope="module")
def causal_generator():
    extractor = SpeechFeatureExtractor("mel")
    return make_generator(feature_extractor=extractor, speech_dim=log_mel.NUM_FEATURES)


_LOW_LATENCY = {"hop": 5, "look_ahead": 0, "blend": 3}


def test_without_look_ahead_frames_come_after_one_hop(causal_generator, portrait, audio):
    options = causal_generator.options(stream_schedule=_LOW_LATENCY)
    stream = causal_generator.stream(portrait, options=options)
    assert len(stream.push(audio[: 5 * 640 - 1])) == 0
    assert len(stream.push(audio[5 * 640 - 1 : 5 * 640])) == 5
    assert len(stream.push(audio[5 * 640 : 11 * 640])) == 5
    assert len(stream.finish()) == 1


def test_causal_features_stream_like_a_clip(causal_generator, portrait, audio):
    options = causal_generator.options(schedule=_LOW_LATENCY, stream_schedule=_LOW_LATENCY)
    how = {"seed": 5, "options": options}
    clip = causal_generator.generate(portrait, audio, 16_000, **how)
    np.testing.assert_array_equal(
        _stream(causal_generator, portrait, audio, 700, **how), clip.frames
    )


def test_with_the_same_schedule_a_stream_is_the_clip(generator, portrait, audio):
    schedule = {"hop": 18, "look_ahead": 10, "blend": 4, "candidates": 2}
    options = generator.options(schedule=schedule, stream_schedule=schedule)
    how = {"seed": 5, "options": options}
    clip = generator.generate(portrait, audio, 16_000, **how)
    streamed = _stream(generator, portrait, audio, 7_000, **how)
    np.testing.assert_array_equal(streamed, clip.frames)


def test_very_short_streams(generator, portrait):
    assert len(generator.stream(portrait).finish()) == 0
    stream = generator.stream(portrait)
    assert len(stream.push(np.zeros(700))) == 0 and len(stream.finish()) == 1
    for again in (stream.finish, lambda: stream.push(np.zeros(700))):
        with pytest.raises(InputError, match="this stream is finished"):
            again()


def test_scales_reach_the_motion(generator, portrait, audio):
    source = generator.animator.encode_source(portrait)
    still = generator.options(control={"motion_scale": 0.0})
    motion = generator.generate(portrait, audio, 16_000, options=still).motion
    own = source.motion
    np.testing.assert_allclose(motion, np.broadcast_to(own, motion.shape), atol=1e-5)


def test_a_stream_comes_to_rest_once_its_end_is_known(generator, portrait, audio):
    """The frames before that are those of a stream without rest."""
    run = lambda **how: _stream(generator, portrait, audio, 8_000, **how).astype(float)
    plain = run()
    rested = run(options=generator.options(control={"rest_sec": 60.0}))
    differs = np.flatnonzero(np.abs(rested - plain).max(axis=(1, 2, 3)) > 1)  # Less is rounding.
    assert len(differs) and differs[0] >= 110  # `finish` returns 24 of the 134 frames.
    own = generator.animator.encode_source(portrait)
    still = generator.animator.render(own, own.motion[None])[0]
    assert np.abs(rested[-1] / 255 - still).max() < 0.01


def test_samplers_and_guidance_by_name(generator, portrait, audio):
    source = generator.animator.encode_source(portrait)
    make = lambda **sampler: np.concatenate(list(generator.motion_windows(
        source, audio[:30_000], options=generator.options(sampler=sampler)
    )))  # fmt: skip
    before = make()
    changes = [{"name": "ddpm"}, {"name": "ddim", "guidance": 5.0}, {"num_steps": 4, "guidance": 2}]
    for change in changes:
        assert np.abs(make(**change) - before).max() > 1e-5
    np.testing.assert_array_equal(make(name="dpm", num_steps=2), before)
    with pytest.raises(InputError, match="ddim"):
        generator.options(sampler={"name": "euler"})


def test_speakers_move_differently(portrait, audio):
    generator = make_generator(speakers=("ann", "bob"))
    source = generator.animator.encode_source(portrait)
    make = lambda name: np.concatenate(
        list(generator.motion_windows(source, audio[:30_000], speaker=name))
    )
    assert np.abs(make("ann") - make("bob")).max() > 1e-4
    with pytest.raises(InputError, match="'eve' is not known to this stage 2; known: ann, bob"):
        make("eve")
    with pytest.raises(InputError, match="speaker None is not known"):
        make(None)


def test_without_speakers_no_name_is_accepted(generator, portrait, audio):
    with pytest.raises(InputError, match="known: none"):
        generator.generate(portrait, audio, 16_000, speaker="ann")


def test_wavlm_is_not_streamed(portrait):
    generator = make_generator(
        feature_extractor=SpeechFeatureExtractor("both", "weights.safetensors")
    )
    with pytest.raises(InputError, match="WavLM needs the whole recording"):
        generator.stream(portrait)


def test_speech_of_any_rate_and_channels():
    stereo = np.zeros((44_100, 2), np.float32)
    assert abs(len(to_speech(stereo, 44_100)) - 16_000) <= 1
    assert count_frames(np.zeros(16_000 * 3)) == 75
    with pytest.raises(InputError, match="less than one frame"):
        to_speech(np.zeros(100), 16_000)


def test_stage_2_has_to_know_the_lips(generator, portrait, audio):
    motion = np.zeros((3, generator.animator.model.motion_dim), np.float32)
    for reason, call in {
        "gestures are given": lambda: generator.generate(portrait, audio, 16_000, gestures=motion),
        "mouth_scale is 0.5": lambda: generator.options(control={"mouth_scale": 0.5}),
    }.items():
        with pytest.raises(InputError, match=f"{reason}, but this stage 2 does not know the lips"):
            call()
    assert generator.options(control={"mouth_scale": 1}) == generator.defaults
