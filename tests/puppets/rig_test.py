"""The files of rigs."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.errors import InputError
from gesture_jax.puppets import (
    rig,
)
from tests.photo_person import draw, make_rig, psnr, rest_pose


def test_a_rig_comes_back_from_its_file(tmp_path):
    for hands in (True, False):
        path = tmp_path / f"{hands}{rig.ENDING}"
        rig.save_rig(path, make_rig(hands))
        assert path.stat().st_size < 900_000
        back = rig.load_rig(path)
        assert len(back.arms) == len(make_rig(hands).arms)
        np.testing.assert_allclose(back.face, make_rig(hands).face, atol=1e-3)
        np.testing.assert_array_equal(back.body.alpha, make_rig(hands).body.alpha)
        assert psnr(back.background, make_rig(hands).background) > 35
        drawn = [draw(which, rest_pose(which))[0] for which in (back, make_rig(hands))]
        assert psnr(*drawn) > 35


def test_packed_rigs_are_those_of_the_file(tmp_path):
    path = tmp_path / f"a{rig.ENDING}"
    rig.save_rig(path, make_rig())
    packed = rig.pack_rig(make_rig())
    with np.load(path) as saved:
        assert packed.keys() == set(saved.files)
        assert all(np.array_equal(saved[name], packed[name]) for name in packed)
    one, other = rig.load_rig(path), rig.unpack_rig(packed, name="ann")
    np.testing.assert_array_equal(*(draw(which, rest_pose(which))[0] for which in (one, other)))
    for change, sentence in [
        ({"side": np.array(10**6)}, "ann: a rig with a side of 1000000 pixels; build the rig"),
        ({"side": np.array([2, 3])}, "ann: not a rig, or a damaged one; build the rig again"),
    ]:
        with pytest.raises(InputError) as refused:
            rig.unpack_rig({**packed, **change}, name="ann")
        assert str(refused.value).startswith(sentence)


def test_damaged_rigs_are_told_in_one_sentence(tmp_path):
    path = tmp_path / f"a{rig.ENDING}"
    rig.save_rig(path, make_rig())
    whole = dict(np.load(path))
    changes = [
        {"version": np.array(99)},
        {"side": np.array(10**6)},
        {"face": np.full((478, 3), np.nan, np.float32)},
        {"face": np.zeros((478, 3), np.float32)},
        {"pose": np.zeros((33, 2), np.float32)},
        {"pose": np.zeros((5, 2), np.float32)},
        {"body_corner": np.array([400, -1])},
        {"hand0_alpha": np.frombuffer(b"no picture", np.uint8)},
        {"body_alpha": whole["hand0_alpha"]},
        {"background": whole["body_colours"]},
        {"arm1": np.zeros(9, np.float32)},
    ]
    for change in changes:
        np.savez(path, **{**whole, **change})
        with pytest.raises(InputError, match=r"a\.rig\.npz"):
            rig.load_rig(path)
    for gone in ("face", "points1", "forearm0_colours"):
        np.savez(path, **{key: value for key, value in whole.items() if key != gone})
        with pytest.raises(InputError, match=r"a\.rig\.npz"):
            rig.load_rig(path)
    np.savez(path, **whole)
    content = path.read_bytes()
    for bytes_ in (b"", content[:1000], content[:-30], b"x" * 500):
        path.write_bytes(bytes_)
        with pytest.raises(InputError, match=r"a\.rig\.npz"):
            rig.load_rig(path)
