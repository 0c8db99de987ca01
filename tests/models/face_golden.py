"""Ten faces for the test of the face network, and their embeddings by dlib itself.

`python tests/models/face_golden.py WEIGHTS LANDMARKS` writes `face_golden.npz`; it needs dlib (this
one: dlib-bin 20.0.1) and scikit-image. WEIGHTS is the file that `gesture_jax.pretrained` fetches,
LANDMARKS is `shape_predictor_5_face_landmarks.dat` of the same package.
"""

import pathlib
import sys

import numpy as np
import skimage.data

PATH = pathlib.Path(__file__).with_name("face_golden.npz")


def faces() -> np.ndarray:
    """Four crops of a photograph and six small grey faces, enlarged: [10, 150, 150, 3] uint8."""
    astronaut = skimage.data.astronaut()
    cut = astronaut[20:170, 150:300]
    variants = [cut, cut[:, ::-1], cut // 2, astronaut[40:190, 130:280, ::-1]]
    grey = np.rint(255 * skimage.data.lfw_subset()[[0, 17, 34, 51, 68, 85]]).astype(np.uint8)
    grey = grey.repeat(6, axis=1).repeat(6, axis=2)
    return np.concatenate([np.stack(variants), np.stack([grey] * 3, axis=-1)])


def main(weights: str, landmarks: str) -> None:
    """Writes embeddings of `faces`, and the astronaut's face as dlib detects and crops it."""
    import dlib

    network = dlib.face_recognition_model_v1(weights)
    astronaut = skimage.data.astronaut()
    (found,) = dlib.get_frontal_face_detector()(astronaut)
    shape = dlib.shape_predictor(landmarks)(astronaut, found)
    points = np.array([(p.x, p.y) for p in shape.parts()])
    chip = dlib.get_face_chip(astronaut, shape, size=150, padding=0.25)
    np.savez_compressed(
        PATH,
        embeddings=np.array([network.compute_face_descriptor(face) for face in faces()], "f4"),
        points=points,
        chip=chip,
        astronaut=np.array(network.compute_face_descriptor(chip), "f4"),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
