"""Data sets on disk and batches of them."""

import collections
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from gesture_jax.data import clips, motions, pipeline, records
from gesture_jax.data.augment import Augmentation, draw_on_device
from gesture_jax.errors import InputError
from gesture_jax.media.sound import read_audio
from gesture_jax.people import regions
from gesture_jax.people.lips import LIP_JOINTS
from gesture_jax.preparation import parts, procedural, splits


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "procedural"
    options = dict(num_clips=4, num_identities=2, clip_sec=1.2, size=32, seed=3)
    assert procedural.write_procedural(path, **options)
    return path


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Motion whose values tell clip and frame: 1000 clip + frame."""
    path = tmp_path_factory.mktemp("data") / "motions"

    def clips_of(first, lengths):
        for clip, length in enumerate(lengths, start=first):
            value = 1000.0 * clip + np.arange(length, dtype=np.float32)[:, None]
            yield {
                "clip_id": f"a#{clip}",
                "speaker": "a",
                "motion": np.repeat(value, 3, axis=1),
                "speech": np.repeat(value, 2, axis=1),
            }

    splits = {"train": lambda: clips_of(0, (25, 31)), "test": lambda: clips_of(2, (20, 11))}
    assert motions.write_motions(path, splits, metadata={"origin": "counted"})
    return path


def test_clips_come_back(dataset):
    train, test = (clips.ClipSource(dataset, split) for split in ("train", "test"))
    assert len(train) == len(test) == 2 and train.size == 32
    assert "left_wrist" in train.joint_names
    record = train[1]
    assert record["speaker"] == "procedural1" and train.num_frames(1) == 30
    frames = clips.decode_frames(record)
    assert frames.shape == (30, 32, 32, 3) and record["audio"].shape == (30 * 640,)
    assert record["speech"].shape == (30, 35)
    assert record["joints"].shape == (30, len(train.joint_names), 2)
    np.testing.assert_array_equal(clips.decode_frames(record, [7, 2]), frames[[7, 2]])
    ids = [record["clip_id"] for source in (train, test) for record in source]
    assert len(set(ids)) == 4


def test_jpeg_hides_nothing(dataset):
    from gesture_jax.procedural import speaker

    record = clips.ClipSource(dataset, "train")[0]
    seed = int(record["clip_id"].split("#")[1])
    drawn = speaker.perform(identity=0, seed=seed, duration_sec=1.2, size=32)
    error = drawn.frames.astype(float) - clips.decode_frames(record)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 36
    np.testing.assert_allclose(record["audio"], drawn.audio, atol=1e-4)


def _clip(phones=("m", "a", "p"), times=((0.1, 0.2), (0.2, 0.5), (0.5, 0.6))) -> clips.Clip:
    return clips.Clip(
        clip_id="ann#1",
        speaker="ann",
        frames=np.zeros((25, 16, 16, 3), np.uint8),
        audio=np.zeros(16_000, np.float32),
        speech=np.zeros((25, 2), np.float32),
        joints=np.zeros((25, 0, 2), np.float32),
        stress_times_sec=np.array([0.35], np.float32),
        phones=phones,
        phone_times_sec=np.array(times, np.float32).reshape(-1, 2),
    )


def _parse(content: bytes) -> tuple[list[str], np.ndarray]:
    record = clips.ClipRecords.parse(content)
    return record["phones"].decode().split(), record["phone_times_sec"].reshape(-1, 2)


def test_phones_come_back(dataset):
    names, times = _parse(clips.encode_clip(_clip())[0])
    assert names == ["m", "a", "p"]
    np.testing.assert_allclose(times, [(0.1, 0.2), (0.2, 0.5), (0.5, 0.6)])
    assert _parse(clips.encode_clip(_clip((), ()))[0])[0] == []
    record = clips.ClipSource(dataset, "train")[0]
    assert len(record["phones"]) == len(record["phone_times_sec"]) > 2


def test_a_cut_clip_keeps_the_phones_inside():
    content, _ = clips.encode_clip(_clip())
    names, times = _parse(clips.cut_clip(content, 5, 25, clip_id="ann#2", fps=25))
    assert names == ["a", "p"]
    np.testing.assert_allclose(times, [(0.0, 0.3), (0.3, 0.4)], atol=1e-6)


def test_clips_of_older_versions_have_no_phones():
    """Their records lack the fields."""

    class OlderRecords(records.RecordsBuilder, skip_registration=True):
        name = "clips"
        FEATURES = {  # noqa: RUF012
            key: feature
            for key, feature in clips.ClipRecords.FEATURES.items()
            if key not in clips.ClipRecords.DEFAULTS
        }

    content, _ = clips.encode_clip(_clip())
    record = clips.ClipRecords.parse(content)
    older = OlderRecords.serialize({key: record[key] for key in OlderRecords.FEATURES})
    names, times = _parse(older)
    assert names == [] and times.shape == (0, 2)
    assert clips.ClipRecords.parse(older)["speaker"] == b"ann"


def test_motions_know_the_lips_where_clips_have_their_joints(tmp_path):
    names = ("head", *LIP_JOINTS)
    joints = np.zeros((30, 5, 2), np.float32)
    joints[:, 2, 0] = 20.0  # The right corner.
    joints[10:, 4, 1] = 8.0  # The lower lip.
    motion = {
        "clip_id": "a#1",
        "speaker": "a",
        "motion": np.zeros((30, 3), np.float32),
        "speech": np.zeros((30, 2), np.float32),
        "joints": joints,
    }
    known, unknown = tmp_path / "known", tmp_path / "unknown"
    motions.write_motions(known, {"train": lambda: [motion]}, metadata={"joint_names": names})
    source = motions.MotionSource(known, "train")
    assert source.num_lips == 2
    np.testing.assert_allclose(source[0]["lips"][[0, 20]], [[0, 0], [0.4, 0]], atol=1e-6)
    batch = next(iter(pipeline.motion_windows(
        source, window=20, num_prior=2, batch_size=1, seed=0, train=False
    )))  # fmt: skip
    assert batch["motion"].shape == (1, 20, 5) and batch["portrait"].shape == (1, 5)
    np.testing.assert_allclose(batch["motion"][0, 15, 3:], [0.4, 0], atol=1e-6)
    motions.write_motions(unknown, {"train": lambda: [{**motion, "joints": ()}]}, metadata={})
    source = motions.MotionSource(unknown, "train")
    assert source.num_lips == 0 and source[0]["lips"].shape == (30, 0)


def test_tfds_opens_it_too(dataset):
    for kind, count in (("clips", 2), ("frames", 60)):
        builder = tfds.builder_from_directory(dataset / kind / "2.0.0")
        assert builder.info.splits["train"].num_examples == count


def test_there_is_something_to_try(dataset):
    from gesture_jax.media import images

    record = clips.ClipSource(dataset, "test")[0]
    picture = images.load_image(dataset / "example.png")
    np.testing.assert_array_equal(picture, clips.decode_frames(record, [0])[0])
    assert len(read_audio(dataset / "example.wav")) == len(record["audio"])


def test_written_once_and_never_over_something_else(dataset, tmp_path):
    options = dict(num_clips=4, num_identities=2, clip_sec=1.2, size=32)
    assert not procedural.write_procedural(dataset, seed=3, **options)
    with pytest.raises(InputError, match="seed 3, not 4"):
        procedural.write_procedural(dataset, seed=4, **options)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a data set"):
        procedural.write_procedural(tmp_path, seed=3, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def _split(lengths, split=None, **options):
    facts = [{"clip_id": f"a#{k}", "speaker": "a", "num_frames": n} for k, n in enumerate(lengths)]
    done = splits.split_clips([parts.Part("a", split, facts, [], None)], **options)
    return {name: [(s.clip_id, s.start, s.stop) for s in found] for name, found in done.items()}


def test_ends_for_testing_are_exactly_that_share():
    """However many clips there are, and however short that end is."""
    assert _split([100, 33], test_fraction=0.2, split_within_clips=True) == {
        "train": [("a#0", 0, 80), ("a#1", 0, 26)],
        "test": [("a#0-end", 80, 100), ("a#1-end", 26, 33)],
    }
    assert _split([100] * 10, test_fraction=0.2)["test"] == [("a#8", 0, 100), ("a#9", 0, 100)]
    whole = {"train": [("a#0", 0, 100)], "test": []}
    assert _split([100], "train", test_fraction=0.2, split_within_clips=True) == whole
    # Without it, what is for testing of a single clip holds a window.
    assert _split([400], test_fraction=0.1)["test"] == [("a#0-end", 300, 400)]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def broken():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        motions.write_motions(tmp_path / "motions", {"train": broken}, metadata={})
    assert not list(tmp_path.iterdir())


def test_the_kind_is_checked(dataset, counted, tmp_path):
    with pytest.raises(InputError, match="holds 'motions'"):
        clips.ClipSource(counted, "train")
    with pytest.raises(InputError, match="extract"):
        motions.MotionSource(tmp_path, "train")


def test_another_rate_is_refused_by_both_values(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    facts = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**facts, "fps": 30}))
    with pytest.raises(InputError, match="holds 30 frames a second, but 25 are wanted"):
        clips.ClipSource(copy, "train")


def test_lost_shards_are_damage(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    shutil.rmtree(copy / "frames")
    with pytest.raises(InputError, match="is damaged"):
        clips.ClipSource(copy, "train")


def _pairs(dataset, **options):
    source = clips.ClipSource(dataset, "train")
    options = dict(batch_size=6, seed=0, train=True) | options
    return pipeline.frame_pairs(source, **options)


def _take(dataset, count, **options):
    iterator = iter(_pairs(dataset, **options))
    return [next(iterator) for _ in range(count)]


@pytest.mark.parametrize("cache", [False, True])
def test_pairs_are_frames_of_one_clip(dataset, cache):
    source = clips.ClipSource(dataset, "train")
    owner = {
        frame.tobytes(): clip for clip in range(2) for frame in clips.decode_frames(source[clip])
    }
    counts = collections.Counter()
    for batch in _take(dataset, 10, cache=cache):
        assert batch["source"].dtype == np.float32 and batch["source"].max() <= 1.0
        for one, other in zip(batch["source"], batch["driving"], strict=True):
            first, second = (np.rint(x * 255).astype(np.uint8).tobytes() for x in (one, other))
            assert owner[first] == owner[second]
            counts[second] += 1
    assert len(counts) == len(owner)  # 60 draws, 60 frames: an epoch shows each one once.


def test_boxes_are_those_of_the_driving_frame(dataset):
    """Also where pairs are swapped or mirrored, which moves them."""
    source = clips.ClipSource(dataset, "train")
    boxes = {}
    for record in source:
        own = regions.region_boxes(record["joints"], source.joint_names, size=32)
        for frame, found in zip(clips.decode_frames(record), own, strict=True):
            boxes[frame.tobytes()] = found
            boxes[frame[:, ::-1].tobytes()] = regions.mirror_boxes(found, size=32)
    augmentation = Augmentation(swap=0.3, mirror=0.5, jitter=0.0)
    for batch in _take(dataset, 5, augmentation=augmentation):
        assert batch["boxes"].shape == (6, 3, 4) and batch["boxes"].dtype == np.float32
        for frame, found in zip(batch["driving"], batch["boxes"], strict=True):
            picture = np.rint(frame * 255).astype(np.uint8)
            np.testing.assert_array_equal(found, boxes[picture.tobytes()])


def test_without_joints_there_are_no_boxes(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    facts = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**facts, "joint_names": []}))
    (batch,) = _take(copy, 1)
    assert not batch["boxes"].any() and batch["boxes"].shape == (6, 3, 4)


def test_batches_are_a_function_of_the_seed(dataset):
    for one, other in zip(_take(dataset, 3), _take(dataset, 3, cache=True), strict=True):
        np.testing.assert_array_equal(one["driving"], other["driving"])
        np.testing.assert_array_equal(one["source"], other["source"])
    assert (_take(dataset, 1)[0]["driving"] != _take(dataset, 1, seed=1)[0]["driving"]).any()


def test_hosts_share_one_stream(dataset):
    whole = _take(dataset, 2)
    halves = [_take(dataset, 2, batch_size=3, shard=(host, 2)) for host in (0, 1)]
    for step in range(2):
        dealt = np.concatenate([half[step]["driving"] for half in halves])
        np.testing.assert_array_equal(dealt, whole[step]["driving"])


@pytest.mark.parametrize("options", [{}, {"swap": 0.0, "mirror": 0.0, "jitter": 0.0}])
def test_pairs_drawn_on_the_device_are_those_of_the_host(dataset, options):
    """Only colours are rounded otherwise."""
    source, augmentation = clips.ClipSource(dataset, "train"), Augmentation(**options)
    frames = jnp.asarray(pipeline.decode_all(source))
    pictures = _take(dataset, 4, augmentation=augmentation)
    numbers = _take(dataset, 4, augmentation=augmentation, as_numbers=True)
    for drawn, told in zip(pictures, numbers, strict=True):
        pairs = jax.jit(draw_on_device)(frames, told)
        expected = np.stack([drawn["source"], drawn["driving"]], axis=1)
        atol = 1.01 / 255 if options == {} else 1e-7
        np.testing.assert_allclose(pairs, expected, atol=atol)
        np.testing.assert_array_equal(told["boxes"], drawn["boxes"])
        np.testing.assert_array_equal(told["points"], drawn["points"])


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_the_position_is_restored_in_the_middle_of_an_epoch(dataset, num_workers):
    """60 frames make ten batches; workers, whatever their number, do not change the stream."""
    expected = _take(dataset, 7, augmentation=Augmentation())
    again = iter(_pairs(dataset, num_workers=num_workers, augmentation=Augmentation()))
    for batch in expected[:2]:
        np.testing.assert_array_equal(next(again)["source"], batch["source"])
    state = again.get_state()
    assert json.loads(json.dumps(state)) == {"position": 2}
    next(again)
    again.set_state(state)
    for batch in expected[2:]:
        np.testing.assert_array_equal(next(again)["source"], batch["source"])
    again.close()


def test_a_test_pass_sees_everything_once(dataset):
    source = clips.ClipSource(dataset, "test")
    options = dict(batch_size=4, seed=0, train=False, frames_per_clip=3)
    batches = list(pipeline.frame_pairs(source, **options))
    assert [batch["mask"].sum() for batch in batches] == [4, 2]
    assert all(len(batch["source"]) == 4 for batch in batches)
    first = clips.decode_frames(source[0], [0])[0]
    np.testing.assert_allclose(batches[0]["source"][0], first / 255, atol=1e-6)


def _windows(counted, split="train", **options):
    source = motions.MotionSource(counted, split)
    options = dict(window=10, stride=5, num_prior=3, batch_size=2, seed=0) | options
    return pipeline.motion_windows(source, **options)


def test_windows_and_their_past(counted):
    starts, portraits = set(), set()
    iterator = iter(_windows(counted, train=True))
    for batch in (next(iterator) for _ in range(9)):  # 4 + 5 windows, twice.
        np.testing.assert_array_equal(batch["motion"][..., 0], batch["speech"][..., 0])
        for motion, prior in zip(batch["motion"], batch["prior"], strict=True):
            start = motion[0, 0]
            np.testing.assert_array_equal(motion[:, 0], start + np.arange(10))
            frame = start % 1000
            expected = start - frame + np.maximum(np.arange(frame - 3, frame), 0)
            np.testing.assert_array_equal(prior[:, 0], expected)
            starts.add(float(start))
        np.testing.assert_array_equal(
            batch["portrait"][:, 0] // 1000, batch["motion"][:, 0, 0] // 1000
        )
        portraits |= set(batch["portrait"][:, 0].tolist())
    assert len(portraits) > 5  # Any frame of the window's clip.
    assert starts == {0, 5, 10, 15, 1000, 1005, 1010, 1015, 1020}


def test_speakers_are_numbered_by_name(counted):
    source = motions.MotionSource(counted, "train")
    known = sorted(source.metadata["speakers"])
    names = {record["motion"][0, 0] // 1000: record["speaker"] for record in source}
    iterator = iter(_windows(counted, train=True, speakers=known))
    for batch in (next(iterator) for _ in range(4)):
        expected = [known.index(names[start // 1000]) for start in batch["motion"][:, 0, 0]]
        np.testing.assert_array_equal(batch["speaker"], expected)
    assert (next(iter(_windows(counted, train=True)))["speaker"] == 0).all()


def test_test_windows_do_not_shuffle(counted):
    batches = list(_windows(counted, "test", stride=10, train=False))
    np.testing.assert_array_equal(
        np.concatenate([b["motion"][:, 0, 0] for b in batches]), [2000, 2010, 3000, 2000]
    )
    np.testing.assert_array_equal(np.concatenate([b["mask"] for b in batches]), [1, 1, 1, 0])


def test_windows_longer_than_all_clips_are_refused(counted):
    with pytest.raises(InputError, match="40 frames of a window"):
        _windows(counted, window=40, train=True)
