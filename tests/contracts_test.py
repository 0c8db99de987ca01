"""Public functions on arrays refuse arrays of a wrong rank, shape or dtype.

chex checks this for users; jaxtyping and beartype check the annotations in tests. A new public
function belongs into `_CASES`, or into `_EXEMPT` if it has no contract on arrays.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import jax
import jaxtyping
import numpy as np
import pytest

import gesture_jax.diffusion
import gesture_jax.metrics
import gesture_jax.ops
from gesture_jax.diffusion import process
from gesture_jax.errors import InputError
from gesture_jax.metrics import (
    beats,
    fgd,
    fvd,
    identity,
    lip_sync,
    lips,
    motion,
    motion_rates,
    perceptual,
    pose,
    scores,
)
from gesture_jax.metrics import image as image_metrics
from gesture_jax.metrics.frechet import Moments
from gesture_jax.ops import conv, image, rotation, rows, warp
from gesture_jax.ops.cpu import conv as cpu_conv
from gesture_jax.ops.cpu import winograd
from gesture_jax.people.pose import JOINT_NAMES
from gesture_jax.speech.phones import Phone
from gesture_jax.training import losses

# They take no arrays, or objects that have checked theirs; or any array at all.
_EXEMPT = {
    "beats": {"find_variant", "audio_onsets"},
    "conv": {"find_equal_sides", "find_uniform_padding", "use_xla_conv", "uses_xla_conv"},
    "flops": {"count_flops"},
    "fgd": {"hash_autoencoder", "read_autoencoder", "write_autoencoder"},
    "frechet": {"frechet_distance", "small_sample_note"},
    "fvd": {"fvd", "logits", "moments"},  # `tests/models/i3d_test.py` has their InputErrors.
    "perceptual": {"vgg_network"},
    "pose": {"detect_joints", "read_poses"},
    "precision": {"float32_matmuls"},
    "remat": {"block", "checkpoint", "product"},
    "samplers": {"check_interval", "guided", "make_sampler", "within_interval"},
    "winograd": {"both_ways"},
}


@dataclasses.dataclass
class _Case:
    """A call that is right; each of its arrays can be made wrong.

    Attributes:
      function: the public function.
      args: its positional arguments; arrays and lists of arrays are made wrong, one at a time.
      options: its keyword arguments.
      wrong: which mistakes are refused: "rank" makes an array a scalar, "shape" adds one to its
        last axis, "dtype" exchanges floats and integers.
      typed: whether its annotations are checked too.
    """

    function: Callable
    args: tuple
    options: dict[str, Any]
    wrong: tuple[str, ...] = ("rank", "dtype")
    typed: bool = True

    @property
    def name(self) -> str:
        function = inspect.unwrap(self.function)
        return f"{function.__module__.removeprefix('gesture_jax.')}.{function.__name__}"


def _floats(*shape):
    return np.full(shape, 0.5, np.float32)


def _case(function, *args, wrong=("rank", "dtype"), typed=True, **options):
    return _Case(function, args, options, wrong, typed)


_ALL = "rank", "shape", "dtype"
_MAP, _KERNEL = _floats(2, 8, 8, 4), _floats(3, 3, 4, 5)
_PICTURE, _WEIGHTS = _floats(2, 16, 16, 3), _floats(2, 16, 16, 1)
_FEATURE = _floats(2, 39)  # g = 2.
_WARP = _floats(2, 8, 8, 4), _floats(2, 8, 8, 3, 3), _floats(2, 3)
_WINDOWS, _JOINTS = _floats(3, 12, 6), _floats(6, len(JOINT_NAMES), 2)
_CONV = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
_PADS = [(1, 1), (1, 1)]
_PLACES = warp.Places(np.zeros((1, 2, 2), int), _floats(1, 2, 2, 1), _floats(1, 2, 2, 1))
_CLIPS, _TIMES = [_floats(3, 4), _floats(2, 4)], [np.array([1.0]), np.array([2.0])]
_CASES = [
    _case(conv.conv_general_dilated, _MAP, _KERNEL, (1, 1), _PADS, **_CONV),
    _case(conv.conv_upsampled, _MAP, _KERNEL, (1, 1), _PADS, **_CONV),
    _case(cpu_conv.convolve, _MAP, _KERNEL, 1, typed=False),
    _case(winograd.convolve, _MAP, _KERNEL, padding=1),
    _case(winograd.kernel_gradient, _MAP, _floats(2, 8, 8, 5), size=3, padding=1),
    _case(image.upsample_nearest, _MAP),
    _case(image.downsample_nearest, _MAP),
    _case(image.average_pool, _MAP),
    _case(image.pyramid, _MAP, num_levels=2),
    _case(image.enlarge, _MAP, 16),
    _case(image.box_blur, _MAP, 3),
    _case(image.fold, _MAP, 2),
    _case(image.unfold, _MAP, 2),
    _case(image.box_mask, _floats(2, 3, 4), height=4, width=5, wrong=_ALL),
    _case(image.cut_squares, _MAP, _floats(2, 3, 2), size=3),
    _case(image.read_points, _floats(4, 5, 2), _floats(3, 2)),
    _case(rotation.angles_from_logits, _floats(2, 66)),
    _case(rotation.matrix_from_angles, _floats(2, 3), wrong=_ALL),
    _case(rotation.angles_from_matrix, _floats(2, 3, 3), wrong=_ALL),
    _case(rotation.join_feature, _floats(2, 2, 2, 3, 3), _floats(2, 3), wrong=_ALL),
    _case(rotation.split_feature, _FEATURE),
    _case(rotation.retarget_feature, _FEATURE, _FEATURE, _FEATURE),
    _case(rotation.matrix_to_angles_feature, _FEATURE),
    _case(rotation.angles_to_matrix_feature, _floats(2, 15)),
    _case(rotation.scale_deviation, _FEATURE, _FEATURE, _floats(2, 15)),
    _case(rows.apply_to_other_rows, lambda x: x, _MAP, np.array([1, -1]), wrong=("rank",)),
    _case(warp.deviation_warp, *_WARP),
    _case(warp.exact_deviation_warp, *_WARP),
    _case(warp.flow_warp, *_WARP),
    _case(warp.displace, _MAP, _floats(2, 8, 8, 2)),
    _case(warp.find_places, _floats(2, 8, 8, 2), wrong=_ALL),
    _case(warp.with_differences, _MAP),
    _case(warp.read_bicubic, _floats(4, 4, 8), _PLACES),
    _case(warp.read_bilinear, _floats(4, 4, 8), _PLACES),
    _case(warp.move_places, _PLACES, _floats(1, 2, 2), _floats(1, 2, 2), 2, wrong=()),
    _case(image_metrics.psnr, _PICTURE, _PICTURE, _WEIGHTS, wrong=_ALL),
    _case(image_metrics.ssim, _PICTURE, _PICTURE, _WEIGHTS, wrong=_ALL),
    _case(motion.speed, _floats(2, 20, 3)),
    _case(motion.speed_error, _floats(2, 20, 3), _floats(2, 20, 3), wrong=_ALL),
    _case(motion.correlation, _floats(2, 20), _floats(2, 20), wrong=()),
    _case(motion.speed_correlation, _floats(2, 20, 3), _floats(2, 20, 3), wrong=_ALL),
    _case(motion.diversity, _floats(5, 3)),
    _case(motion.l1_diversity, _CLIPS),
    _case(motion.seam_jerk_ratio, _floats(20, 3), [10]),
    _case(perceptual.vgg_features, {}, _PICTURE, wrong=_ALL),
    _case(perceptual.st_lpips, {}, _PICTURE, _PICTURE, wrong=_ALL),
    _case(perceptual.lpips, {}, _PICTURE, _PICTURE, wrong=_ALL),
    _case(pose.interpolate, _JOINTS, wrong=_ALL),
    _case(pose.normalise, _JOINTS, wrong=_ALL),
    _case(motion_rates.feature_speed, _JOINTS, JOINT_NAMES),
    _case(motion_rates.joint_speeds, _JOINTS, JOINT_NAMES),
    _case(motion_rates.wrist_speed, _JOINTS, JOINT_NAMES),
    _case(motion_rates.upper_body_speeds, _JOINTS, JOINT_NAMES),
    _case(motion_rates.arm_angle_changes, _JOINTS, JOINT_NAMES),
    _case(scores.mean_score, _floats(5), wrong=("rank",), typed=False),
    _case(scores.frechet_score, _CLIPS, _CLIPS),
    _case(scores.halves_scores, _CLIPS, _CLIPS),
    _case(scores.set_score, np.mean, _CLIPS),
    _case(Moments.of, _floats(5, 3)),
    _case(identity.embed, {}, [np.zeros((150, 150, 3), np.uint8)], wrong=_ALL),
    _case(identity.distances, _floats(2, 128), _floats(3, 128), wrong=_ALL),
    _case(identity.csim, _floats(2, 128), _floats(2, 128), wrong=_ALL),
    _case(identity.recognise, _floats(2, 128), _floats(3, 128), wrong=_ALL),
    _case(fvd.preprocess, _floats(1, 10, 32, 32, 3), wrong=_ALL),
    _case(fgd.cut_windows, _floats(20, 6), window=12, stride=4),
    _case(fgd.fit_autoencoder, _WINDOWS),
    _case(fgd.latent, {}, _WINDOWS),
    _case(fgd.reconstruction_loss, {}, _WINDOWS),
    _case(fgd.encode_windows, {}, _WINDOWS),
    _case(fgd.fgd, {}, _WINDOWS, _WINDOWS),
    _case(beats.bas, "onsets", _floats(20, 3), _floats(99), wrong=("rank",), typed=False),
    _case(beats.find_motion_beats, "onsets", _floats(20, 3), wrong=("rank",), typed=False),
    _case(beats.typical_rates, "onsets", [_floats(20, 3)], wrong=("rank",), typed=False),
    _case(beats.motion_beats, _floats(20, 3), wrong=("rank",), typed=False),
    _case(beats.find_audio_beats, "onsets", _floats(99), wrong=("rank",), typed=False),
    _case(beats.beats_per_sec, _TIMES, 9.0, wrong=("rank",), typed=False),
    _case(beats.beat_alignment, *_TIMES, wrong=("rank",), typed=False),
    _case(
        beats.align, "onsets", _TIMES, _TIMES[0], duration_sec=9.0, wrong=("rank",), typed=False
    ),
    _case(
        beats.shuffled, "onsets", [_TIMES, _TIMES], _TIMES, [9.0, 9.0],
        wrong=("rank",), typed=False,
    ),
    _case(
        lips.lip_scores, _floats(50), _floats(999), [Phone("B", 0.1, 0.2)],
        wrong=("rank",), typed=False,
    ),
    _case(lips.envelope, _floats(99), times_sec=np.zeros(2), wrong=("rank",), typed=False),
    _case(lips.correlate, _floats(50), _floats(999), wrong=("rank",), typed=False),
    _case(lips.closure, _floats(50), [Phone("B", 0.1, 0.2)], wrong=("rank",), typed=False),
    _case(lips.silence_ratio, _floats(50), _floats(999), wrong=("rank",), typed=False),
    _case(lips.find_silences, _floats(999), wrong=("rank",), typed=False),
    _case(lip_sync.embed_video, {}, [np.zeros((224, 224, 3), np.uint8)], typed=False),
    _case(lip_sync.embed_audio, {}, _floats(999), wrong=("rank",), typed=False),
    _case(lip_sync.sync_scores, _floats(3, 4), _floats(3, 4), wrong=_ALL),
    _case(losses.pyramid_l1, _PICTURE, _PICTURE, num_levels=2, wrong=_ALL),
    _case(losses.weighted_squares, _PICTURE, _PICTURE, weights=_WEIGHTS, wrong=_ALL),
    _case(losses.total_variation, _MAP),
    _case(
        losses.missed_points, _floats(2, 4, 4, 2, 2), _floats(2, 5, 2), _floats(2, 5, 2),
        layer=np.zeros(5, int), wrong=_ALL,
    ),
    _case(losses.pyramid_perceptual, {}, _PICTURE, _PICTURE, num_levels=2, wrong=_ALL),
    _case(losses.hinge_discriminator, _floats(2, 3), _floats(2, 3), wrong=("dtype",)),
    _case(losses.hinge_generator, _floats(2, 3), wrong=("dtype",)),
    _case(losses.feature_matching, [_MAP], [_MAP], wrong=_ALL, typed=False),
    _case(
        process.motion_loss, _floats(2, 5, 3), _floats(2, 5, 3),
        position=1.0, velocity=1.0, acceleration=1.0, wrong=_ALL,
    ),
]  # fmt: skip


def _spoil(value, mistake: str):
    """The array, or all arrays of a list, with a mistake."""
    if isinstance(value, list):
        # Not only the first one: beartype checks one entry of a list, at random.
        return [_spoil(each, mistake) for each in value]
    if mistake == "rank":
        return value.dtype.type(0) * np.ones((), value.dtype)
    if mistake == "shape":
        return np.concatenate([value, value[..., :1]], axis=-1)
    return value.astype(np.float32 if value.dtype.kind in "iu" else np.int32)


def _has_arrays(value) -> bool:
    return isinstance(value[0] if isinstance(value, list) else value, np.ndarray | list)


def _wrong_calls():
    for case in _CASES:
        for number, arg in enumerate(case.args):
            for mistake in case.wrong if _has_arrays(arg) else ():
                spoiled = list(case.args)
                spoiled[number] = _spoil(arg, mistake)
                yield pytest.param(case, spoiled, id=f"{case.name}-{number}-{mistake}")


@pytest.mark.parametrize(("case", "args"), list(_wrong_calls()))
def test_wrong_arrays_are_refused(case, args):
    first = (Moments,) if case.function == Moments.of else ()
    # A function may leave the check to another public one, which the decorator guards here.
    refusals = AssertionError, InputError, jaxtyping.TypeCheckError
    with pytest.raises(refusals):
        inspect.unwrap(case.function)(*first, *args, **case.options)
    if case.typed:
        with pytest.raises(jaxtyping.TypeCheckError):
            case.function(*args, **case.options)


def _is_pure(case: _Case) -> bool:
    """Whether the call can be traced, without the weights of a network."""
    needs_weights = any(isinstance(arg, dict) for arg in case.args)
    return not needs_weights and "metrics" not in case.name


_PURE = [case for case in _CASES if _is_pure(case)]


@pytest.mark.parametrize("case", _PURE, ids=lambda case: case.name)
def test_right_arrays_are_accepted(case):
    """The calls above are wrong for no other reason."""
    arrays = [i for i, arg in enumerate(case.args) if _has_arrays(arg)]

    def call(*given):
        args = list(case.args)
        for index, array in zip(arrays, given, strict=True):
            args[index] = array
        return case.function(*args, **case.options)

    jax.eval_shape(call, *(case.args[index] for index in arrays))


def _public_functions():
    modules = [losses]
    for package in (gesture_jax.ops, gesture_jax.metrics, gesture_jax.diffusion):
        names = (m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
        modules += map(importlib.import_module, names)
    for module in modules:
        for name, function in vars(module).items():
            is_function = callable(function) and not inspect.isclass(function)
            is_own = getattr(function, "__module__", None) == module.__name__
            if is_function and is_own and not name.startswith("_"):
                yield module.__name__.removeprefix("gesture_jax."), name


def test_every_public_function_has_a_contract():
    covered = {case.name for case in _CASES}
    missing = [
        f"{module}.{name}"
        for module, name in _public_functions()
        if f"{module}.{name}" not in covered and name not in _EXEMPT.get(module.split(".")[-1], ())
    ]
    assert not missing, f"add a case to {__file__}: {missing}"
