"""Sound of many channels, tracks and holes, pictures at any rate: nothing is lost or shifted."""

import fractions
import pathlib

import av
import numpy as np
import pytest
import scipy.io.wavfile
import soxr

from gesture_jax.errors import InputError
from gesture_jax.inference.generator import to_speech
from gesture_jax.media import images, mixing
from gesture_jax.media.sound import SILENT, read_audio, read_sound
from gesture_jax.media.video import iterate_pictures, read_video
from gesture_jax.page import live
from gesture_jax.preparation import videos
from gesture_jax.procedural import speaker
from tests import bad_media, in_process, tiny
from tests.inference import generator_test

_RATE = 16_000


@pytest.fixture(scope="module")
def speech():
    return speaker.perform(identity=0, seed=1, duration_sec=3.0, size=16).audio


def _likeness(one, other):
    length = min(len(one), len(other))
    return np.corrcoef(one[:length], other[:length])[0, 1]


def _rms(sound):
    return np.sqrt(np.mean(np.square(sound)))


def _write_tracks(path, tracks, *, rate=_RATE, starts=None, picture=None):
    """Writes a file with sound tracks [n] or [n, channels].

    Each of `starts` is a pair of times in seconds: in the given sound, and in the file.
    """
    starts = starts or [(0.0, 0.0)]
    with av.open(str(path), "w") as container:
        if picture is not None:
            video = container.add_stream("mpeg4", rate=25)
            video.height, video.width = picture.shape[1:3]
            video.pix_fmt = "yuv420p"
        streams = [container.add_stream("pcm_s16le", rate=rate, layout="mono") for _ in tracks]
        if picture is not None:
            for image in picture:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(video.encode(frame))
            container.mux(video.encode())
        for stream, sound in zip(streams, tracks, strict=True):
            for (begin, heard), (end, _) in zip(starts, [*starts[1:], (1e9, 0)], strict=True):
                piece = sound[round(begin * rate) : round(end * rate)]
                for start in range(0, len(piece), 1600):
                    block = (piece[None, start : start + 1600] * 32767).astype(np.int16)
                    frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                    frame.sample_rate, frame.pts = rate, round(heard * rate) + start
                    frame.time_base = fractions.Fraction(1, rate)
                    container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def _write_wav(path, channels, rate=_RATE):
    scipy.io.wavfile.write(path, rate, np.stack(channels, axis=1).astype(np.float32))
    return path


# --- Channels


_CHANNELS = {
    "opposite": lambda x: [x, -x],
    "opposite, one quieter": lambda x: [x, -0.7 * x],
    "opposite from the middle on": lambda x: [x, np.where(np.arange(len(x)) < len(x) / 2, x, -x)],
    "opposite, beside a mute one": lambda x: [0 * x, x, -x],
    "one of two": lambda x: [0 * x, x],
    "the deepest of 5.1": lambda x: [x if k == 3 else 0 * x for k in range(6)],
    "one of 32": lambda x: [x if k == 20 else 0 * x for k in range(32)],
    "the same": lambda x: [x, x],
}


@pytest.mark.parametrize("kind", _CHANNELS)
def test_no_mix_loses_the_speech(tmp_path, speech, kind):
    channels = _CHANNELS[kind](speech)
    sound = read_sound(_write_wav(tmp_path / "a.wav", channels))
    assert _likeness(np.abs(sound.samples), np.abs(speech)) > 0.97
    assert _rms(sound.samples) == pytest.approx(_rms(speech), rel=0.1)
    cancel = [notice for notice in sound.notices if "cancel each other" in notice]
    assert len(cancel) == kind.startswith("opposite")
    assert not any("silent" in notice for notice in sound.notices)
    array = to_speech(np.stack(channels, axis=1), _RATE)
    np.testing.assert_allclose(sound.samples, array, atol=1e-6)


def test_both_channels_of_a_dialogue_are_used(tmp_path, speech):
    half = len(speech) // 2
    is_first = np.arange(len(speech)) < half
    heard = read_audio(_write_wav(tmp_path / "a.wav", [speech * is_first, speech * ~is_first]))
    for part in (slice(half), slice(half, None)):
        assert _likeness(heard[part], speech[part]) > 0.99
        assert _rms(heard[part]) > 0.45 * _rms(speech[part])


def test_loud_stereo_is_not_clipped(tmp_path):
    tone = 0.99 * np.sin(2 * np.pi * 220 * np.arange(_RATE) / _RATE)
    heard = read_audio(_write_wav(tmp_path / "a.wav", [tone, tone]))
    np.testing.assert_allclose(heard, tone, atol=1e-5)


def test_channels_may_change_in_the_middle_of_a_file(tmp_path, speech):
    """Broadcasts do this between programmes."""
    path, programmes = tmp_path / "a.ts", b""
    for layout in ("mono", "stereo"):
        with av.open(str(path), "w", format="adts") as container:
            stream = container.add_stream("aac", rate=_RATE, layout=layout)
            count = len(stream.codec_context.layout.channels)
            for start in range(0, len(speech), 1024):
                planes = np.repeat(speech[None, start : start + 1024], count, axis=0)
                frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = _RATE, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        programmes += path.read_bytes()
    (tmp_path / "a.aac").write_bytes(programmes)
    heard = read_audio(tmp_path / "a.aac")
    assert len(heard) == pytest.approx(2 * len(speech), abs=5_000)
    assert _rms(heard) == pytest.approx(_rms(speech), rel=0.1)


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (np.zeros((10, 2, 2)), r"of shape \[n\] or \[n, channels\], but is of \[10, 2, 2\]"),
        (np.zeros((2, 48_000)), r"but is of \[2, 48000\]"),
        (np.zeros(48_000, np.int16), r"floats in \[-1, 1\], but is of int16"),
    ],
)
def test_arrays_that_are_no_sound_are_refused(sound, reason):
    for take in (lambda: to_speech(sound, _RATE), lambda: mixing.Mixer(_RATE).push(sound)):
        with pytest.raises(InputError, match=reason):
            take()


# --- A stream


@pytest.fixture(scope="module")
def stream(quickly_compiled):
    generator, portrait = generator_test.make_generator(), speaker.portrait(identity=0, size=32)

    def run(sound, *, chunk, rate=_RATE):
        opened = generator.stream(portrait, seed=3, sample_rate=rate)
        pieces = [opened.push(sound[i : i + chunk]) for i in range(0, len(sound), chunk)]
        return np.concatenate([*pieces, opened.finish()])

    run.open = lambda: generator.stream(portrait)
    return run


def test_a_stream_of_channels_is_that_of_their_mix(stream, speech):
    mono = stream(speech, chunk=8_000)
    for channels in ([speech, speech], [speech, -speech]):
        np.testing.assert_array_equal(stream(np.stack(channels, axis=1), chunk=7_000), mono)


def test_chunks_of_channels_do_not_show(stream, speech):
    sound = soxr.resample(np.stack([speech, np.roll(speech, 9_000)], axis=1), _RATE, 44_100)
    run = lambda chunk: stream(sound, chunk=chunk, rate=44_100)
    whole = run(len(sound))
    assert len(whole) == round(len(sound) / 44_100 * 25)
    np.testing.assert_array_equal(run(3_001), whole)


def test_a_stream_keeps_to_its_channels(stream):
    opened = stream.open()
    opened.push(np.zeros((700, 2)))
    with pytest.raises(InputError, match="of 1 channels follows sound of 2"):
        opened.push(np.zeros(700))


# --- Tracks and silence


def _hiss(length, rms):
    return rms * np.random.default_rng(0).standard_normal(length).astype(np.float32)


@pytest.mark.parametrize("first", [0.0, 0.001])
def test_the_track_with_the_speech_is_taken_and_named(tmp_path, speech, first):
    path = _write_tracks(tmp_path / "a.mkv", [_hiss(len(speech), first), speech])
    sound = read_sound(path)
    assert sound.track == 1 and _likeness(sound.samples, speech) > 0.99
    (notice,) = sound.notices
    assert notice == f"{path}: has 2 sound tracks; number 2 is used"


def test_the_first_track_is_taken_where_it_has_speech(tmp_path, speech):
    tracks = [0.5 * speech, np.roll(speech, 9_000), 0 * speech]
    sound = read_sound(_write_tracks(tmp_path / "a.mkv", tracks))
    assert sound.track == 0 and _likeness(sound.samples, speech) > 0.99


def test_a_track_that_cannot_be_decoded_is_passed_over(tmp_path, speech):
    path = _write_tracks(tmp_path / "a.mkv", [speech, speech])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"A_PCM/INT/LIT", b"A_NEW/INT/LIT", 1))
    sound = read_sound(path)
    assert sound.track == 1 and _likeness(sound.samples, speech) > 0.99


def test_a_cover_is_not_a_video(tmp_path, speech):
    """The picture beside music is stored as a video of one frame."""
    images.write_image(tmp_path / "cover.png", speaker.portrait(identity=0, size=64))
    with (
        av.open(str(tmp_path / "cover.png")) as cover,
        av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container,
    ):
        sound = container.add_stream("aac", rate=_RATE, layout="mono")
        picture = container.add_stream_from_template(cover.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(speech[None], format="fltp", layout="mono")
        frame.sample_rate = _RATE
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
        packet = next(cover.demux())
        packet.stream = picture
        container.mux(packet)
    assert len(read_audio(tmp_path / "a.m4a")) >= len(speech)
    with pytest.raises(InputError, match=r"a\.m4a: has no video stream"):
        read_video(tmp_path / "a.m4a", size=8)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    tiny.constant_stages(folder)
    images.write_image(folder / "face.png", speaker.portrait(identity=0, size=16))
    return folder


def _command(stages, command, **flags):
    """Runs a command with the tiny stages; returns its messages and the sound of its video."""
    flags = {"image": stages / "face.png", "out": stages / "out.mp4", **flags}
    flags["stage1"] = stages / "stage1"
    if command == "generate":
        flags["stage2"] = stages / "stage2"
    code, said = in_process.run(command, *(f"--{name}={value}" for name, value in flags.items()))
    assert code == 0, said
    return said, read_audio(stages / "out.mp4")


@pytest.mark.usefixtures("quickly_compiled")
def test_commands_report_silence_and_the_track(stages, tmp_path, speech):
    quiet = _write_wav(tmp_path / "quiet.wav", [0.001 * speech])
    said, _ = _command(stages, "generate", audio=quiet)
    assert f"note: {quiet}: is silent" in said
    picture = np.full((25, 32, 32, 3), 128, np.uint8)
    for command, name in (("generate", "audio"), ("animate", "driving")):
        path = tmp_path / f"{name}.mkv"
        _write_tracks(path, [0 * speech, speech], picture=picture)
        said, heard = _command(stages, command, **{name: path})
        assert f"note: {path}: has 2 sound tracks; number 2 is used" in said
        assert "silent" not in said and _likeness(heard, speech) > 0.9
    mute = _write_tracks(tmp_path / "mute.mkv", [0 * speech], picture=picture)
    said, _ = _command(stages, "animate", driving=mute)
    assert f"note: {mute}: is silent" in said


def test_the_report_of_a_data_set_names_the_track(tmp_path, speech):
    picture = np.full((75, 32, 32, 3), 128, np.uint8)
    (tmp_path / "in").mkdir()
    path = _write_tracks(tmp_path / "in" / "eve.mkv", [0 * speech, speech], picture=picture)
    settings = videos.Settings(size=32, min_sec=1.0)
    report = videos.write_videos(tmp_path / "in", tmp_path / "out", settings=settings)
    assert report["kept"]["clips"] == 2 and not report["left_out"]["count"]
    assert report["notes"] == [f"{path}: has 2 sound tracks; number 2 is used"]


def test_the_page_reports_a_mute_microphone(stream, speech):
    for sound, notices in ((0 * speech, ["the recording " + SILENT]), (speech, [])):
        talk = live.Live(stream.open, max_sec=10.0)
        talk.push(sound[: 2 * _RATE])
        for _ in talk.finish():
            pass
        assert talk.notices == notices


# --- Holes


def test_a_hole_in_the_sound_is_silence(tmp_path, speech):
    path = _write_tracks(tmp_path / "a.mkv", [speech], starts=[(0.0, 0.0), (1.0, 13.0)])
    sound = read_sound(path)
    assert len(sound.samples) == len(speech) + 12 * _RATE
    assert _likeness(sound.samples[:_RATE], speech[:_RATE]) > 0.99
    assert not sound.samples[_RATE + 200 : 13 * _RATE - 200].any()
    assert _likeness(sound.samples[13 * _RATE :], speech[_RATE:]) > 0.99
    assert f"{path}: has no sound from 1.0 s to 13.0 s; that becomes silence" in sound.notices
    late = read_audio(path, start_sec=6.0, stop_sec=14.0)
    assert len(late) == 8 * _RATE
    np.testing.assert_allclose(late, sound.samples[6 * _RATE : 14 * _RATE], atol=1e-3)


def test_sound_that_begins_late_is_late(tmp_path, speech):
    picture = np.full((50, 32, 32, 3), 128, np.uint8)
    path = _write_tracks(tmp_path / "a.mkv", [speech], starts=[(0.0, 11.0)], picture=picture)
    heard = read_audio(path)
    assert not heard[: 11 * _RATE - 200].any()
    assert _likeness(heard[11 * _RATE :], speech) > 0.99


def test_sound_that_overlaps_itself_does_not_move_what_follows(tmp_path, speech):
    content = b""
    for start, sound in ((0.0, speech[: 2 * _RATE]), (1.5, speech)):
        options = {"output_ts_offset": str(start)}
        with av.open(str(tmp_path / "a.ts"), "w", options=options) as container:
            stream = container.add_stream("mp2", rate=_RATE, layout="mono")
            block = (sound[None] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = _RATE, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        content += (tmp_path / "a.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(content)
    heard = read_audio(tmp_path / "a.ts")
    assert len(heard) == pytest.approx(4.5 * _RATE, abs=2_000)
    assert _likeness(heard[_RATE * 5 // 2 : 4 * _RATE], speech[_RATE : _RATE * 5 // 2]) > 0.9


def test_sound_far_beyond_reason_is_refused(tmp_path, speech):
    path = _write_tracks(tmp_path / "a.mkv", [speech], starts=[(0.0, 0.0), (1.0, 25_000.0)])
    with pytest.raises(InputError, match=r"a\.mkv: time stamps leap from 1 s to 25000 s"):
        read_audio(path)


def _with_a_still(path):
    """Writes a screen recording: no frames while nothing moves, but sound."""
    times = [*np.arange(25) / 25, 1.0, *np.arange(13 * 25, 14 * 25) / 25]
    return bad_media.write(path, times=times, audio_seconds=14.0)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_still_picture_stays_as_long_as_it_is_shown(tmp_path, ending):
    path = _with_a_still(tmp_path / f"a.{ending}")
    frames = read_video(path, size=32)
    assert len(frames) == 14 * 25 and len(read_audio(path)) >= 14 * _RATE
    assert bad_media.flash_sec(frames) == 13.0  # The first frame after it.
    late = read_video(path, size=32, start_sec=6.0, stop_sec=14.0)
    assert len(late) == 200 and bad_media.flash_sec(late) == 7.0


def test_a_frame_after_a_still_is_not_as_long_as_it(tmp_path):
    path = bad_media.write(tmp_path / "a.mkv", times=[0.0, 0.04, 12.0], audio_seconds=1.0)
    assert len(read_video(path, size=8)) == 301


def test_a_screen_recording_becomes_a_data_set(tmp_path):
    (tmp_path / "in").mkdir()
    _with_a_still(tmp_path / "in" / "eve.mp4")
    settings = videos.Settings(size=32, min_sec=1.0, max_sec=30.0)
    report = videos.write_videos(tmp_path / "in", tmp_path / "out", settings=settings)
    assert not report["left_out"]["count"]
    assert report["kept"]["hours"] * 3600 == pytest.approx(14.0, abs=0.2)


def test_time_stamps_that_restart_are_continued(tmp_path):
    """Files joined end to end do this."""
    making = {"seconds": 4.0, "codec": "mpeg2video", "sound_codec": "mp2"}
    path = bad_media.write(tmp_path / "a.mpg", **making)
    path.write_bytes(2 * path.read_bytes())
    frames, audio = read_video(path, size=32), read_audio(path)
    assert len(frames) == pytest.approx(200, abs=4)
    assert len(audio) / _RATE == pytest.approx(8.0, abs=0.2)
    second = frames[5 * 25 :], audio[5 * _RATE :]
    assert bad_media.flash_sec(second[0]) == pytest.approx(bad_media.FLASH_SEC - 1.0, abs=0.09)
    assert bad_media.burst_sec(second[1]) == pytest.approx(bad_media.FLASH_SEC - 1.0, abs=0.09)


# --- Frames by their times

_BITS = 9


def _numbered(number):
    """Returns a picture that encodes its number in stripes."""
    bits = number >> np.arange(_BITS) & 1
    return np.broadcast_to(np.repeat(bits * 200 + 20, 8)[None, :, None], (16, 8 * _BITS, 3))


def _numbers(path):
    pictures = np.stack(list(iterate_pictures(path)))
    bits = pictures[:, 8, 4::8, 0] > 120
    return (bits << np.arange(_BITS)).sum(axis=1)


def _film(path: pathlib.Path, times, rate):
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=rate)
        video.width, video.height, video.pix_fmt = 8 * _BITS, 16, "yuv420p"
        video.codec_context.time_base = fractions.Fraction(1, 12_000)
        # The sound begins at the start of the file, so the start time of the picture matters.
        sound = container.add_stream("pcm_s16le", rate=_RATE, layout="mono")
        silence = np.zeros((1, _RATE // 10), np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
        frame.sample_rate, frame.pts = _RATE, 0
        container.mux(sound.encode(frame))
        for number, time in enumerate(times):
            image = np.ascontiguousarray(_numbered(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time * 12_000), fractions.Fraction(1, 12_000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize("ending", ["mov", "mkv"])
@pytest.mark.parametrize("late_sec", [0.0, 0.005, 0.01, 0.033])
@pytest.mark.parametrize("fps", [25, 50, 100])
def test_multiples_of_25_fps_step_by_40_ms(tmp_path, fps, late_sec, ending):
    times = late_sec + np.arange(2 * fps) / fps
    numbers = _numbers(_film(tmp_path / f"a.{ending}", times, fps))
    assert len(numbers) in (50, 51)
    steps = np.diff(numbers[1:-1])  # The first frame is also shown before its time.
    assert (steps == fps // 25).all(), numbers


@pytest.mark.parametrize(
    "fps", ["24000/1001", "25", "30", "30000/1001", "50", "60", "60000/1001", "120"]
)
def test_the_nearest_frame_is_shown(tmp_path, fps):
    rate = float(fractions.Fraction(fps))
    times = np.arange(round(2 * rate)) / rate
    numbers = _numbers(_film(tmp_path / "a.mov", times, fractions.Fraction(fps)))
    assert len(numbers) == pytest.approx(50, abs=1)
    off = np.abs(times[numbers] - np.arange(len(numbers)) / 25)
    nearest = np.abs(times[:, None] - np.arange(len(numbers)) / 25).min(axis=0)
    # Slower films have no frame within half a step of each moment, and the last one stays.
    assert (off[:-1] <= np.maximum(nearest, 0.5 / rate)[:-1] + 0.0011).all()
    assert (np.diff(numbers) >= 0).all()


def test_a_slow_film_keeps_each_frame_until_the_next(tmp_path):
    """A frame is shown from half a step (of 40 ms) before its time on."""
    numbers = _numbers(_film(tmp_path / "a.mov", np.arange(20) / 10, 10))
    assert len(numbers) == pytest.approx(50, abs=1)
    age = np.arange(len(numbers)) / 25 - numbers / 10
    assert (age > -0.021).all() and (age[:-1] < 0.081).all(), age
