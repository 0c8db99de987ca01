"""The benchmark on photographs: its measures by hand, and the whole of it on two people."""

import dataclasses
import importlib.util
import pathlib

import numpy as np
import pytest
import scipy.ndimage
import skimage.data

from benchmarks.photographs import __main__ as photographs
from benchmarks.photographs import clips, scores, sheet
from gesture_jax.data.clips import Clip
from gesture_jax.errors import InputError
from gesture_jax.inference import bundled
from gesture_jax.inference.animator import Animator
from gesture_jax.media import images
from gesture_jax.people import faces
from gesture_jax.preparation import dataset
from gesture_jax.procedural import speaker
from gesture_jax.speech import extractor
from tests.models import face_golden

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_PORTRAITS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "portraits"
_PEOPLE = "man_0025", "woman_0201"


@pytest.fixture(scope="module")
def find():
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("needs the extra [pose]")
    with faces.open_finder() as find:
        yield find


@pytest.fixture(scope="module")
def astronaut():
    """[256, 256, 3] uint8."""
    return images.square(skimage.data.astronaut()[:400, 30:430], size=256)


def test_sharpness_is_measured_inside_the_box():
    random = np.random.default_rng(0)
    true = random.random((2, 64, 64, 3), np.float32)
    half = true.copy()
    half[:, :, :32] = scipy.ndimage.gaussian_filter(half[:, :, :32], (0, 1.5, 1.5, 0))
    left, right = [[(0, 0, 24, 64)]] * 2, [[(40, 0, 64, 64)]] * 2
    assert scores.relative_sharpness(half, true, left) < 0.1
    assert scores.relative_sharpness(half, true, right) == 1.0
    # Half the contrast is a quarter of the variance.
    assert scores.relative_sharpness(0.5 * true, true, right) == pytest.approx(0.25, rel=1e-3)
    nowhere = [[None, (0, 0, 0, 0)], [(70, 70, 90, 90)]]
    assert np.isnan(scores.relative_sharpness(half, true, nowhere))


def test_the_background_excludes_people_and_moving_pixels():
    frames = np.random.default_rng(0).integers(98, 103, (4, 100, 100, 3)).astype(np.uint8)
    person = np.zeros((100, 100), np.float32)
    person[50:, 40:60] = 1.0
    frames[2, 10:20, 70:80] = 200
    free = clips.background_mask(frames, person)[..., 0] > 0
    assert not free[50:, 40:60].any() and not free[10:20, 70:80].any()
    assert free[:45].mean() > 0.9 and free[50:, :35].all() and free[30:, 70:].all()
    frames[3] = 0
    assert not clips.background_mask(frames, person).any()


def test_people_are_recognised(find, astronaut):
    """Mirrored faces are recognised too; frames without a face are counted."""
    cuts = {f"other{k}": cut for k, cut in enumerate(face_golden.faces()[4:])}
    cuts["astronaut"] = clips.cut_face(astronaut, find)
    try:
        who = scores.Identity(find, cuts)
    except InputError as error:
        pytest.skip(str(error))
    blank = np.full_like(astronaut, 128)
    frames = np.stack([astronaut, astronaut[:, ::-1], blank, blank]) / np.float32(255)
    found = who.scores("astronaut", frames)
    assert found["recognised"] == found["same person"] == 0.5
    assert found["faces not found"] == 2 and found["CSIM"] > 0.95
    assert who.scores("other0", frames)["recognised"] == 0.0
    assert np.isnan(who.scores("other0", frames[2:])["CSIM"])


def test_the_table_shows_which_targets_are_reached():
    found = {
        "new": {
            "PSNR, background": [36.0, 38.0],
            "PSNR, hands": [np.nan, 20.0],
            "ST-LPIPS": [0.1, 0.02],
            "share of ST-LPIPS": [0.5, 1.0],
            "sharpness, face": [1.3, 1.3],
            "recognised, own motion": [1.0, 0.9],
        },
        "source copied": {"ST-LPIPS": [0.2, 0.02], "PSNR, hands": [np.nan, np.nan]},
    }
    table = photographs.tabulate(found)
    reached = {measure: row["reached"] for measure, row in table.items()}
    assert reached == {
        "PSNR, background": "yes", "PSNR, hands": "", "ST-LPIPS": "", "share of ST-LPIPS": "yes",
        "sharpness, face": "no", "recognised, own motion": "no",
    }  # fmt: skip
    assert table["PSNR, background"]["target"] == "at least 35.0"
    assert table["sharpness, face"]["target"] == "at least 80%, at most 120%"
    assert table["share of ST-LPIPS"]["new"] == "55% (50% to 100%)"
    assert table["PSNR, hands"]["new"] == "20.0 (20.0 to 20.0)"
    assert table["PSNR, hands"]["source copied"] == "-"
    kept = {name: values for name, _, values in photographs.figures(found)}
    assert kept["photographs, new: recognised, own motion"] == [100.0, 90.0]
    assert kept["photographs, new: PSNR, hands"] == [20.0]
    assert "photographs, source copied: PSNR, hands" not in kept


def test_the_sheet_zooms_in_and_leaves_missing_parts_blank(astronaut):
    frames = np.stack([astronaut, astronaut[::-1]]) / np.float32(255)
    face = faces.Face((100.0, 20.0, 164.0, 84.0), np.zeros((5, 2)))
    hands = np.zeros((2, 2, 4))
    hands[1, 0] = 0, 200, 56, 256
    clip = clips.PhotographClip("a", frames[0], frames, [None, face], hands, np.ones((256, 256, 1)))
    row = sheet.draw_row(clip, frames[:, :, ::-1])
    assert len(row) == 9 and {tile.shape for tile in row} == {(256, 256, 3)}
    np.testing.assert_array_equal(
        row[1], astronaut[::-1]
    )  # The frame that differs most from the source.
    np.testing.assert_array_equal(row[2], astronaut[::-1, ::-1])
    assert (row[7] == 1).all() and (row[8] == 1).all()  # The other hand.
    assert clip.notes() == ["a: no face is found in 1 of 2 driving frames"]


@dataclasses.dataclass(frozen=True)
class _Take:
    """A portrait that moves to the side; see `data.parts.Take`."""

    person: str
    number: int
    split: str

    @property
    def name(self):
        return f"{self.person}#{self.number}"

    def cache_key(self):
        return dataclasses.asdict(self)

    def perform(self):
        picture = images.square(images.load_image(_PORTRAITS / f"{self.person}.jpg"), size=128)
        frames = np.stack([np.roll(picture, shift // 2, axis=1) for shift in range(10)])
        joints = np.full((10, len(speaker.JOINT_NAMES), 2), np.nan, np.float32)
        if self.person == _PEOPLE[0]:
            joints[:] = (30.0, 90.0)
        audio = np.zeros(6400, np.float32)
        features = extractor.SpeechFeatureExtractor().extract(audio, num_frames=10)
        yield Clip(self.name, self.person, frames, audio, features, joints, np.zeros(0, np.float32))


@pytest.mark.skipif(not _PORTRAITS.exists(), reason="../shared/data/portraits is absent")
def test_two_people_are_measured(find, tmp_path):
    takes = [_Take(person, number, "test") for person in _PEOPLE for number in (1, 2)]
    dataset.prepare(
        takes + [_Take("man_0001", 1, "train")],
        tmp_path / "data", size=128, arguments={},
        feature_extractor=extractor.SpeechFeatureExtractor(),
        joint_names=speaker.JOINT_NAMES, run=_run_here,
    )  # fmt: skip
    people, left_out = clips.read_clips(tmp_path / "data", find, num_frames=3)
    assert [clip.speaker for clip in people] == list(_PEOPLE) and left_out == 2
    assert people[1].notes() == ["woman_0201: no hands are known"]
    assert all(clip.frames.shape == (3, 128, 128, 3) for clip in people)
    folder = tmp_path / "portraits"
    folder.mkdir()
    for person in (*_PEOPLE, "man_0001"):
        (folder / f"{person}.jpg").symlink_to(_PORTRAITS / f"{person}.jpg")
    cuts = clips.read_portraits(folder, find, size=128)
    animators = {"demo": Animator.load(bundled.find("demo")["stage1"])}
    try:
        who = scores.Identity(find, cuts)
        found = photographs.measure(animators, people, who, str(tmp_path / "out"))
    except InputError as error:
        pytest.skip(str(error))
    assert found["true frames"]["recognised, own motion"] == [1.0, 1.0]
    assert found["demo"]["recognised, another's changes"] == [
        0.0,
        0.0,
    ]  # Its frames of 64 pixels are too blurred.
    assert min(found["demo"]["share of ST-LPIPS"]) > 1.0
    assert max(found["demo"]["sharpness, face"]) < 0.5
    assert np.isnan(found["demo"]["PSNR, hands"]).tolist() == [False, True]
    assert all(len(each) == 2 for measures in found.values() for each in measures.values())
    table = photographs.tabulate(found)
    assert table["share of ST-LPIPS"]["reached"] == "no"
    assert images.load_image(tmp_path / "out" / "demo.png").shape == (514, 2320, 3)


def _run_here(folder, takes):
    from gesture_jax.preparation import parts

    parts.make_parts(folder, takes, num_workers=0)


def test_missing_inputs_are_reported(find, tmp_path, astronaut):
    with pytest.raises(InputError, match="no portraits; give a folder of"):
        clips.read_portraits(tmp_path, find, size=128)
    images.write_image(tmp_path / "nobody.png", np.zeros((64, 64, 3)))
    with pytest.raises(InputError, match=r"nobody\.png: no face is found"):
        clips.read_portraits(tmp_path, find, size=128)
    weights = bundled.find("demo")["stage1"]
    with pytest.raises(InputError, match="none: "):
        photographs.main([weights, f"--data={tmp_path / 'none'}", f"--portraits={tmp_path}"])
