"""What users are told about odd inputs, and what is taken from them all the same."""

import io

import numpy as np
import pytest
from PIL import Image

from gesture_jax.data import people, pose, speaker

_NAN = (np.nan,) * 3
# As of the procedural speaker: low and high of x, y and distance of the shoulders.
_KNOWN = np.array([[0.48, 0.52], [0.45, 0.48], [0.30, 0.34]])
_needs_pose = pytest.mark.skipif(
    not pose.is_installed(), reason="the extra [pose] is not installed"
)


@pytest.mark.parametrize(
    ("found", "agreed"),
    [
        # What the pose model saw of one drawn person at five sizes: the first is wrong.
        (
            [(0.55, 0.3, 0.29), (0.5, 0.42, 0.29), (0.5, 0.46, 0.32), (0.5, 0.46, 0.32), _NAN],
            (0.5, 0.46, 0.32),
        ),
        ([(0.5, 0.4, 0.3), (0.51, 0.41, 0.3), _NAN], (0.505, 0.405, 0.3)),
        ([(0.5, 0.4, 0.3), (0.8, 0.7, 0.1), _NAN], None),
        ([_NAN, (0.5, 0.4, 0.3)], None),
        ([_NAN, _NAN], None),
    ],
)
def test_a_person_is_where_two_sizes_say_so(found, agreed):
    told = people.agree(np.array(found), size=lambda row: row[2])
    if agreed is None:
        assert told is None
    else:
        np.testing.assert_allclose(told, agreed, atol=0.02)


@_needs_pose
@pytest.mark.parametrize(
    ("identity", "size", "colour", "corner"),
    [(28, (256, 192), (202, 169, 103), (92, 26)), (24, (153, 256), (208, 92, 154), (20, 46))],
)
def test_png_and_jpeg_of_a_picture_are_cut_alike(identity, size, colour, corner):
    """Of these drawn people one size finds another place in one of the files."""
    picture = Image.new("RGB", size, colour)
    picture.paste(Image.fromarray(speaker.portrait(identity=identity, size=128)), corner)
    squares = []
    for quality in (None, 95, 75):
        file = io.BytesIO()
        picture.save(file, "PNG") if quality is None else picture.save(
            file, "JPEG", quality=quality
        )
        shown = np.asarray(Image.open(file))
        square, notices = people.choose_square("p.png", shown, None, _KNOWN)
        assert f"--crop={','.join(map(str, square))};" in notices[0]
        squares.append(square)
    np.testing.assert_allclose(squares, [(*corner, 128)] * 3, atol=16)


@_needs_pose
def test_the_square_around_a_person_is_told_where_training_framing_is_unknown():
    picture = np.full((480, 640, 3), 205, np.uint8)
    picture[200:456, 300:556] = speaker.portrait(identity=1, size=256)
    (left, top, side), (notice,) = people.choose_square("p.png", picture, None, None)
    assert 250 < left < 400 and 150 < top < 250 and 200 < side < 350
    assert f"--crop={left},{top},{side};" in notice
