"""Kept traces give bit-identical results, and are never used for another program."""

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest
from jax import export

import gesture_jax
from configs import stage1 as stage1_config
from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.inference import animator, programs, windows
from gesture_jax.inference.windows import WindowState
from gesture_jax.models import motion_model
from gesture_jax.models.build import build_model
from gesture_jax.models.motion_space import MotionSpace
from gesture_jax.ops.cpu import conv
from gesture_jax.parallel import aot_cache
from gesture_jax.storage import cache
from tests import tiny

_SPACE = MotionSpace("matrix", 147, False)
_OWN = np.arange(147, dtype=np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.TRACED_DIR, str(tmp_path))
    return tmp_path


def _hold(*, space=_SPACE, num_prior=5):
    """Returns the program like in a new process, which has traced nothing yet."""
    aot_cache.cached_jit.cache_clear()
    return aot_cache.cached_jit(windows.start_state, space, num_prior, 2)


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _forbid_tracing(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("it is traced again")

    monkeypatch.setattr(export, "export", fail)


def test_the_next_process_traces_nothing(folder, monkeypatch):
    first = _hold()(_OWN)
    assert len(_files(folder)) == 1
    _forbid_tracing(monkeypatch)
    program = _hold()
    assert program.is_kept(_OWN)
    found, shapes = program(_OWN), program.shapes(_OWN)
    assert isinstance(found, WindowState)
    chex.assert_trees_all_equal(found, first)
    assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: leaf.shape, shapes)


def test_nothing_is_kept_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(cache.TRACED_DIR, raising=False)
    program = _hold()
    program(_OWN)
    assert not program.is_kept(_OWN)
    for nowhere in ("", "gs://nobody/traced"):  # Reading from a bucket is slower than tracing.
        monkeypatch.setenv(cache.TRACED_DIR, nowhere)
        assert not program.is_kept(_OWN)


def test_different_programs_have_different_files(folder, monkeypatch):
    _hold()(_OWN)
    for other in (_hold(num_prior=4), _hold(space=dataclasses.replace(_SPACE, name="angles"))):
        assert not other.is_kept(_OWN)
    program = _hold()
    assert program.is_kept(_OWN)
    assert not program.is_kept(_OWN[:100]) and not program.is_kept(_OWN.astype(np.int32))
    assert not conv.use_xla_conv(lambda: program.is_kept(_OWN))()
    with jax.default_matmul_precision("bfloat16"):
        assert not program.is_kept(_OWN)
    monkeypatch.setattr(aot_cache, "_version", lambda: "other sources")
    assert not program.is_kept(_OWN)


def test_the_version_follows_the_sources(monkeypatch, tmp_path):
    """The version depends on the name and the content of every source file."""
    versions = set()
    for name, text in (("a.py", "1"), ("a.py", "2"), ("models/a.py", "2"), ("notes.txt", "3")):
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        monkeypatch.setattr(gesture_jax, "__file__", str(tmp_path / "package" / "__init__.py"))
        versions.add(aot_cache._version.__wrapped__())
    assert len(versions) == 3  # Text files do not count.


class _ForeignSpace(MotionSpace):
    """A foreign class, whose source is not part of the version."""


def test_programs_with_foreign_parts_are_not_kept(folder):
    def own(space, num_prior, blend, own):
        return windows.start_state(space, num_prior, blend, own)

    spaces = _SPACE, _ForeignSpace("matrix", 147, False)
    for function, space in ((own, spaces[0]), (windows.start_state, spaces[1])):
        program = aot_cache.cached_jit(function, space, 5, 2)
        chex.assert_trees_all_equal(program(_OWN), _hold()(_OWN))
        assert not program.is_kept(_OWN)
    assert len(_files(folder)) == 1


def test_a_damaged_file_is_replaced(folder):
    first = _hold()(_OWN)
    (path,) = _files(folder)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40] + b"?" + whole[41:]):
        path.write_bytes(damaged)
        chex.assert_trees_all_equal(_hold()(_OWN), first)
        assert _hold().is_kept(_OWN) and len(path.read_bytes()) == len(whole)


def test_a_folder_that_cannot_be_written_does_no_harm(folder, monkeypatch):
    (folder / "file").write_text("")
    monkeypatch.setenv(cache.TRACED_DIR, str(folder / "file"))
    assert _hold()(_OWN).prior.shape == (5, 147)


def test_traces_of_older_sources_are_removed(folder, monkeypatch):
    others = [folder / name for name in ("photos", "thesis", "work", "notes")]
    for path in others:
        path.mkdir()
    for name in "abcde":
        monkeypatch.setattr(aot_cache, "_version", lambda name=name: name)
        _hold()(_OWN)
    assert all(path.exists() for path in others)  # Files of the user stay.
    ours = set(folder.iterdir()) - set(others)
    assert len(ours) == 3 and folder / "gesture_jax_traced_e" in ours


def test_only_kept_programs_are_compiled_ahead(folder):
    asked = []

    def calls():
        for num_prior in (5, 4, 3):
            asked.append(num_prior)
            yield _hold(num_prior=num_prior), (_OWN,)

    _hold()(_OWN)
    aot_cache.compile_ahead(calls(), only_kept=True).join()
    assert asked == [5, 4] and len(_files(folder)) == 1
    aot_cache.compile_ahead(calls()).join()
    assert asked == [5, 4, 5, 4, 3] and len(_files(folder)) == 3


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    tiny.constant_stages(folder)
    return folder


def _clip(stages):
    from gesture_jax.inference.generator import GestureGenerator

    aot_cache.cached_jit.cache_clear()
    loaded = animator.Animator.load(stages / "stage1", ahead=True)
    generator = GestureGenerator.load(stage1=loaded, stage2=stages / "stage2")
    generator.prepare()
    portrait = np.random.default_rng(0).random((16, 16, 3), np.float32)
    sound = np.random.default_rng(1).standard_normal(16_000).astype(np.float32) * 0.1
    return generator.generate(portrait, sound, 16_000)


def test_a_clip_is_the_same_to_the_bit(stages, folder, monkeypatch, quickly_compiled):
    first, second = _clip(stages), _clip(stages)
    names = {path.name.rpartition("-")[0].rpartition(".")[2] for path in _files(folder)}
    assert names == {
        "blank_variables", "blank_params", "encode_source", "render_batch", "to_uint8",
        "start_state", "next_window",
    }  # fmt: skip
    monkeypatch.delenv(cache.TRACED_DIR)
    plain = _clip(stages)
    for clip in (first, second):
        np.testing.assert_array_equal(clip.frames, plain.frames)
        np.testing.assert_array_equal(clip.motion, plain.motion)


@pytest.mark.parametrize("preset", ["demo", "photo", "paper"])
def test_shapes_are_those_of_a_new_network(folder, preset):
    model = build_model(**stage1_config.get_config(preset).model)
    picture = jax.ShapeDtypeStruct((1, model.resolution, model.resolution, 3), np.float32)
    wanted = jax.eval_shape(conv.use_xla_conv(model.init), jax.random.key(0), picture, picture)
    for _ in range(2):
        aot_cache.cached_jit.cache_clear()
        assert programs.abstract_variables(model) == wanted


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_programs_of_other_devices_can_be_kept(stages, platform):
    """JAX can export all of their parts."""
    from gesture_jax.checkpoint import checkpoints

    configs = [checkpoints.read_config(stages / name, stage=name) for name in ("stage1", "stage2")]
    model = build_model(**configs[0].model)
    variables = programs.abstract_variables(model)
    frames = np.zeros((2, 16, 16, 3), np.float32)
    features = aot_cache.cached_jit(programs.encode_source, model).shapes(variables, frames[:1])[0]
    motion = np.zeros((2, model.motion_dim), np.float32)
    calls = [
        (programs.encode_source, (model,), (variables, frames[:1])),
        (programs.extract_motion, (model,), (variables, frames)),
        (programs.render_batch, (model,), (variables, features, motion)),
    ]
    space, denoiser = motion_model.build(configs[1])
    pace = windows.WindowSchedule(**configs[1].schedule)
    process, sampling = GaussianProcess(), motion_model.make_sampling(configs[1])
    settings = denoiser, space, process, pace, sampling.interval, None
    known = motion_model.abstract_variables(configs[1])
    state = jax.eval_shape(
        functools.partial(windows.start_state, space, denoiser.num_prior, 8),
        motion[0],
        known["statistics"],
    )
    speech = np.zeros((denoiser.window, 35), np.float32)
    steps = sampling.sampler.steps(process, padded=True)
    scales = [np.float32(1.0)] * 2
    arguments = known, jax.random.key(0), state, speech, None, np.float32(2.0), steps, *scales
    calls.append((windows.next_window, settings, arguments))
    aot_cache._register_nodes()
    for function, bound, args in calls:
        jitted = jax.jit(lambda *args, f=function, bound=bound: f(*bound, *args))
        data = export.export(jitted, platforms=[platform])(*args).serialize()
        assert export.deserialize(data).platforms == (platform,)
