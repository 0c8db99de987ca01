"""The opening of the mouth and the picture of a talking face."""

import numpy as np
import pytest
import skimage.data

from gesture_jax.people import faces, pose


def test_the_opening_of_a_smile_is_found_where_there_is_a_face():
    if not pose.is_installed():
        pytest.skip("needs the extra [pose]")
    smile = skimage.data.astronaut()
    assert faces.mouth_opening([]).shape == (0,)
    found = faces.mouth_opening([smile, np.zeros_like(smile), smile[:, ::-1]])
    assert found.dtype == np.float32 and np.isnan(found[1])
    # The teeth are seen; the mirror image has the same mouth.
    assert 0.05 < found[0] < 0.4 and found[2] == pytest.approx(found[0], abs=0.04)


def test_a_talking_face_has_room_below_and_at_the_sides():
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[60:100, 80:120] = 255
    cut = faces.cut_out_talking(picture, (80.0, 60.0, 120.0, 100.0))
    assert cut.shape == (224, 224, 3) and cut.dtype == np.uint8
    # 40 pixels of 56: 160 of 224, from the top and in the middle.
    rows, columns = np.nonzero(cut[..., 0] > 127)
    assert (rows.min(), rows.max()) == (0, 159)
    assert (columns.min(), columns.max()) == (32, 191)


def test_a_talking_face_at_the_border_is_filled_with_grey():
    cut = faces.cut_out_talking(np.zeros((60, 60, 3), np.uint8), (0.0, 20.0, 40.0, 60.0))
    assert (cut[:150, :30] == 110).all() and (cut[:150, 40:] == 0).all()
    assert (cut[-50:] == 110).all()


def test_the_mesh_of_a_face_lies_in_the_face():
    if not pose.is_installed():
        pytest.skip("needs the extra [pose]")
    smile = skimage.data.astronaut()
    mesh = faces.find_mesh(smile)
    assert mesh.shape == (478, 2) and mesh.dtype == np.float32
    left, right, upper, lower = mesh[[78, 308, 13, 14]]
    assert left[0] < upper[0] < right[0] and upper[1] < lower[1]
    assert ((mesh > (150, 40)) & (mesh < (300, 230))).all()
    assert faces.find_mesh(np.zeros_like(smile)) is None
