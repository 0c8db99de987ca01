"""Face recognition against dlib's embeddings and crop, and damaged files."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from gesture_jax.errors import InputError
from gesture_jax.metrics import identity
from gesture_jax.models import face
from gesture_jax.people import faces
from gesture_jax.pretrained import dlib_weights, fetch
from tests.models import face_golden

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def golden():
    return np.load(face_golden.PATH)


@pytest.fixture(scope="module")
def weights_file():
    try:
        return fetch.find("face")
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def variables(weights_file):
    return dlib_weights.face_variables(weights_file)


@pytest.fixture(scope="module")
def find_face():
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("needs the extra [pose]")
    with faces.open_finder() as find:
        yield find


def test_dlib_itself_finds_the_same(variables, golden):
    found = identity.embed(variables, list(face_golden.faces()))
    np.testing.assert_allclose(found, golden["embeddings"], atol=1e-5)


def test_one_person_is_nearer_than_others(variables):
    """The pictures of the person are plain, mirrored and dark; false colours are left out."""
    embeddings = identity.embed(variables, list(face_golden.faces()))
    distances = identity.distances(embeddings[:1], embeddings)[0]
    assert max(distances[:3]) < min(identity.SAME_PERSON, *distances[4:])
    likeness = identity.csim(embeddings[:1], embeddings)
    assert min(likeness[:3]) > max(likeness[4:])
    assert likeness[0] == pytest.approx(1.0)


def test_a_face_is_cut_out_as_dlib_does(variables, golden):
    # dlib's points are pixel indices, ours are coordinates: the centre of pixel 0 is at 0.5.
    cut = faces.cut_out(skimage.data.astronaut(), golden["points"] + 0.5)
    difference = np.abs(cut.astype(float) - golden["chip"])
    assert cut.shape == (150, 150, 3) and difference.mean() < 1.0
    embedding = identity.embed(variables, [cut])
    assert identity.distances(embedding, golden["astronaut"][None]) < 0.1


def test_mediapipe_finds_dlibs_points(find_face, variables, golden):
    picture = skimage.data.astronaut()
    found = find_face(picture)
    assert np.linalg.norm(found.points - golden["points"], axis=-1).max() < 5.0
    left, top, right, bottom = found.box
    inside = (found.points >= (left, top)) & (found.points <= (right, bottom))
    assert inside.all()
    embedding = identity.embed(variables, [faces.cut_out(picture, found.points)])
    assert identity.distances(embedding, golden["astronaut"][None]) < 0.3


def test_pictures_without_a_face_have_none(find_face):
    assert find_face(np.full((256, 256, 3), 128, np.uint8)) is None


def test_a_missing_model_is_reported(monkeypatch):
    monkeypatch.setattr(faces.pose, "is_installed", lambda: False)
    with pytest.raises(InputError, match=r"no face model is installed; `pip install"):
        faces.open_finder().__enter__()


@pytest.mark.parametrize("scale", [0.4, 1.7, 3.5])
def test_turned_moved_and_scaled_faces_are_cut_out_alike(scale):
    """A smooth function of the position in the face is seen by another camera."""
    angle, shift = 0.3, np.array([150.0, 90.0]) * scale
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (25.0 + 100.0 * faces._MEAN_FACE) @ turn.T + shift
    y, x = np.mgrid[: int(400 * scale), : int(400 * scale)] + 0.5
    place = (np.stack([x, y], axis=-1) - shift) @ np.linalg.inv(turn).T
    picture = np.clip(np.dstack([place, place[..., :1]]), 0, 255).round().astype(np.uint8)
    cut = faces.cut_out(picture, points).astype(float)
    # The mean face covers the middle 100 of 150 pixels.
    expected = np.arange(150) + 0.5
    inner = slice(20, 130)
    assert np.abs(cut[inner, inner, 0] - expected[None, inner]).max() < 2.5
    assert np.abs(cut[inner, inner, 1] - expected[inner, None]).max() < 2.5


def test_a_mirrored_face_is_the_same(variables):
    cut = face_golden.faces()[0]
    both = identity.embed(variables, [cut, cut[:, ::-1]], mirror=True)
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)
    np.testing.assert_allclose(both[0], identity.embed(variables, [cut, cut[:, ::-1]]).mean(axis=0))


def test_recognising_by_hand():
    """A value that all share has no effect: each portrait has 100 as its first value."""
    portraits = np.array([[100.0, 2.0, 0.0], [100.0, -1.0, 1.0], [100.0, -1.0, -1.0]])
    ours = np.array([[90.0, 0.1, 0.0], [100.0, -0.1, 0.2], [110.0, -3.0, -3.0]])
    np.testing.assert_array_equal(identity.recognise(ours, portraits), [0, 1, 2])
    assert identity.recognise(np.zeros((0, 3)), portraits).shape == (0,)


def test_an_empty_batch_and_a_part_of_one(variables):
    ten = list(face_golden.faces())
    assert identity.embed(variables, []).shape == (0, 128)
    parts = np.concatenate([identity.embed(variables, ten[:3]), identity.embed(variables, ten[3:])])
    np.testing.assert_allclose(parts, identity.embed(variables, ten), atol=1e-6)


def test_shortcuts_are_padded_with_zeros():
    """A block whose convolutions are zero returns its halved input."""
    block = face._Block(5, halves=True)
    x = jnp.arange(1.0, 129.0).reshape(1, 8, 8, 2)
    blank = jax.tree.map(jnp.zeros_like, block.init(jax.random.key(0), x))
    passed = block.apply(blank, x)
    assert passed.shape == (1, 4, 4, 5)  # The convolution alone would give 3 x 3.
    np.testing.assert_allclose(passed[0, 0, 0], [10.0, 11.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(passed[..., :2], x.reshape(1, 4, 2, 4, 2, 2).mean(axis=(2, 4)))


def test_damaged_files_are_reported(weights_file, tmp_path):
    content, damaged = weights_file.read_bytes(), tmp_path / "face.dat"
    start = content.index(b"con_4") + 5
    broken = {
        "of nothing": (b"", "not dlib's face recognition network"),
        "cut short": (content[: len(content) // 2], "damaged dlib network"),
        "without its end": (content[:22_300_000], "damaged dlib network"),
        "of another version": (
            content[:start] + b"\x01\x07" + content[start + 2 :], "version 7",
        ),
        "of another width": (
            content[: start + 2] + b"\x02\x81\x12" + content[start + 5 :], "is misshapen",
        ),
    }  # fmt: skip
    for name, (written, expected) in broken.items():
        damaged.write_bytes(written)
        with pytest.raises(InputError, match=expected):
            dlib_weights.face_variables(damaged)
            raise AssertionError(f"a file {name} was read")
