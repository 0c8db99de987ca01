"""Video and sound: what is written can be read, and bad files are named."""

import av
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.media.framing import Crop
from gesture_jax.media.rates import SAMPLE_RATE_HZ
from gesture_jax.media.sound import has_audio, read_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio, write_video


def _frames(count, size=32):
    """Each frame a brightness of its own."""
    levels = np.linspace(30, 220, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, size, size, 3))


def _tone(seconds, rate=SAMPLE_RATE_HZ, hz=220.0):
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def _write(path, frames, *, fps=25, audio=None, rate=48_000, channels=1, rotate=None):
    """A file as others make them, by other settings than ours."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        sound = None
        if audio is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
            sound = container.add_stream("aac", rate=rate, layout=layout)
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        if sound is not None:
            planes = np.repeat(audio[None], channels, axis=0)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate = rate
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def test_video_and_sound_come_back_together(tmp_path):
    path, audio = tmp_path / "clip.mp4", _tone(2.0)
    write_video(path, _frames(50), audio=audio, metadata={"title": "Synthetic"})
    frames = read_video(path, size=32)
    assert frames.shape == (50, 32, 32, 3)
    errors = frames.astype(float) - _frames(50)
    # A frame too early or too late would change the mean error by 3.8.
    assert np.abs(errors).max() <= 6 and abs(errors.mean()) < 1
    heard = read_audio(path)
    assert 0 <= len(heard) - 32_000 <= 1_024  # AAC fills up its last block of 1024.
    middle = slice(8_000, 24_000)
    assert np.corrcoef(heard[middle], audio[middle])[0, 1] > 0.99
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "Synthetic"
        assert {stream.codec_context.name for stream in container.streams} == {"h264", "aac"}


def test_same_input_same_bytes(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, _frames(10), audio=_tone(0.4))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 6)])
def test_any_sound_becomes_16_khz_mono(tmp_path, rate, channels):
    audio = _tone(1.5, rate)
    path = _write(tmp_path / "c.mp4", _frames(38), audio=audio, rate=rate, channels=channels)
    heard = read_audio(path)
    assert heard.ndim == 1 and heard.dtype == np.float32
    assert 0 <= len(heard) / 16_000 - 1.5 < 2 * 1_024 / rate  # AAC's blocks.
    spectrum = np.abs(np.fft.rfft(heard[4_000:20_000]))
    assert np.argmax(spectrum) == pytest.approx(220, abs=2)  # One bin a hertz.


def test_odd_sizes_are_cropped_to_the_middle(tmp_path):
    frames = np.zeros((5, 40, 64, 3), np.uint8)
    frames[:, :, 12:52] = 200
    path = _write(tmp_path / "wide.mp4", frames)
    read = read_video(path, size=20, crop=Crop(2))
    assert read.shape == (5, 20, 20, 3)
    np.testing.assert_allclose(read, 200, atol=8)
    write_video(tmp_path / "odd.mp4", _frames(3, size=33))
    assert read_video(tmp_path / "odd.mp4", size=34).shape == (3, 34, 34, 3)


def test_max_sec_stops(tmp_path):
    write_video(tmp_path / "clip.mp4", _frames(50), audio=_tone(2.0))
    assert len(read_video(tmp_path / "clip.mp4", size=16, stop_sec=0.4)) == 10
    assert len(read_audio(tmp_path / "clip.mp4", stop_sec=0.5)) == 8_000


def test_wav_roundtrip(tmp_path):
    audio = _tone(0.5)
    write_audio(tmp_path / "a.wav", audio, 16_000)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), audio, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (b"", "empty"), (b"these are words\n" * 50, "cannot be decoded")],
)
def test_bad_files_are_named(tmp_path, content, reason):
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (lambda: read_video(path, size=8), lambda: read_audio(path)):
        with pytest.raises(InputError, match=rf"bad\.mp4: .*{reason}"):
            read()


def test_missing_streams_are_named(tmp_path):
    silent = _write(tmp_path / "silent.mp4", _frames(5))
    assert not has_audio(silent)
    with pytest.raises(InputError, match=r"silent\.mp4: has no audio"):
        read_audio(silent)
    write_audio(tmp_path / "sound.wav", _tone(0.5), 16_000)
    with pytest.raises(InputError, match=r"sound\.wav: has no video"):
        read_video(tmp_path / "sound.wav", size=8)


def test_a_cut_file_gives_what_it_has_or_says_so(tmp_path):
    write_video(tmp_path / "clip.mp4", _frames(100, 64), audio=_tone(4.0))
    content = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    assert 0 < len(read_video(tmp_path / "cut.mp4", size=16)) < 100


def test_nothing_is_half_written(tmp_path):
    def broken():
        yield from _frames(3)
        raise RuntimeError("the renderer broke")

    with pytest.raises(RuntimeError):
        write_video(tmp_path / "clip.mp4", broken())
    with pytest.raises(InputError, match=r"end in \.mp4"):
        write_video(tmp_path / "clip.avi", _frames(3))
    assert not list(tmp_path.iterdir())
