"""Behind the web page: models, settings, jobs and their progress, files of visitors."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from configs import stage2 as stage2_config
from gesture_jax.errors import InputError
from gesture_jax.page import jobs, model_cache, plot, settings
from gesture_jax.page.sessions import Sessions
from tests import tiny


@dataclasses.dataclass(frozen=True)
class _Request:
    session_hash: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "runs"
    tiny.constant_stages(folder / "eve")
    return folder


def test_models_are_found_in_pairs(runs, tmp_path):
    (model,) = model_cache.find_models(runs)
    assert model.name == "eve/stage2"
    assert (model.stage1, model.stage2) == (str(runs / "eve/stage1"), str(runs / "eve/stage2"))
    moved = tmp_path / "moved"
    runs.rename(moved)
    try:
        (found,) = model_cache.find_models(moved)
        assert found.stage1 == str(moved / "eve/stage1")
        (alone,) = model_cache.find_models(moved / "eve/stage1")
        assert alone.stage2 is None and "videos only" in alone.name
    finally:
        moved.rename(runs)
    for folder, message in ((tmp_path, "no trained model"), (tmp_path / "none", "no such folder")):
        with pytest.raises(InputError, match=message):
            model_cache.find_models(folder)


def test_models_are_loaded_once_and_dropped(runs):
    (model,) = model_cache.find_models(runs)
    models = model_cache.ModelCache([dataclasses.replace(model, name=name) for name in "abc"])
    first = models.generator("a")
    assert models.generator("a") is first and first.animator is models.animator("a")
    models.animator("b"), models.animator("c")
    assert models.generator("a") is not first
    with pytest.raises(InputError, match="no such model"):
        models.animator("../a")
    mute = model_cache.ModelCache([dataclasses.replace(model, stage2=None)])
    with pytest.raises(InputError, match="knows no speech"):
        mute.generator(model.name)


@pytest.mark.parametrize("preset", ["paper", "demo", "smoke"])
def test_defaults_of_models_are_within_bounds(preset):
    config = stage2_config.get_config(preset)
    values = settings.defaults(config)
    chosen = settings.sections(values, config.sampler.name)
    assert [chosen[setting.section][setting.key] for setting in settings.SETTINGS] == values


@pytest.mark.parametrize("value", [-1, 1e9, float("nan"), "1", None, True, [1]])
def test_other_values_are_refused(value):
    values = settings.defaults(stage2_config.get_config("demo"))
    for place in range(len(values)):
        bad = [*values[:place], value, *values[place + 1 :]]
        with pytest.raises(InputError, match=r"has to be from"):
            settings.sections(bad, "dpm")
    with pytest.raises(InputError, match="the sampler"):
        settings.sections(values, value)


def _frames(count, pause_sec=0.0):
    for _ in range(count):
        time.sleep(pause_sec)
        yield np.zeros((2, 2, 3), np.uint8)


def test_jobs_report_their_progress():
    job = lambda watch: sum(1 for _ in watch(_frames(60, 0.02), 60))
    *updates, last = jobs.follow(job, threading.Event())
    assert last == jobs.Finished(60)
    done = [update.done for update in updates]
    assert len(done) > 2 and done == sorted(done) and all(u.total == 60 for u in updates)
    left = [u.seconds_left for u in updates if u.seconds_left is not None]
    assert left and all(0 <= seconds < 60 for seconds in left) and left[-1] < left[0]


@pytest.mark.parametrize("how", ["cancelled", "page closed"])
def test_jobs_stop_when_nobody_needs_them(how):
    stop, ended = threading.Event(), threading.Event()

    def job(watch):
        try:
            return sum(1 for _ in watch(_frames(10_000, 0.01), 10_000))
        finally:
            ended.set()

    updates = jobs.follow(job, stop)
    next(updates)
    if how == "cancelled":
        stop.set()
        with pytest.raises(jobs.Cancelled):
            list(updates)
    else:
        updates.close()
    assert ended.wait(timeout=10)


def test_errors_of_jobs_arrive():
    def job(watch):
        raise InputError("bad.wav: is empty")

    with pytest.raises(InputError, match=r"bad\.wav: is empty"):
        list(jobs.follow(job, threading.Event()))


def test_files_go_with_their_visitors_and_only_theirs(tmp_path):
    """Session hashes, which visitors choose, are no part of paths."""
    own, shared, lasting = (tmp_path / name for name in ("own.png", "shared.png", "drawn.png"))
    for path in (own, shared, lasting):
        path.write_bytes(b"x")
    sessions = Sessions(tmp_path / "sessions", lambda: {str(lasting)})
    one, other = _Request("../../one"), _Request("other")
    sessions.of(one).uploads |= {str(own), str(shared), str(lasting)}
    sessions.of(other).uploads |= {str(shared)}
    first, stop = sessions.of(one).begin()
    second, _ = sessions.of(one).begin()
    assert stop.is_set() and not first.exists() and second.parent == tmp_path / "sessions"
    sessions.end(one)
    assert not second.exists() and not own.exists() and shared.exists() and lasting.exists()
    sessions.end(other)
    assert not shared.exists()
    sessions.end(_Request("never seen"))


@pytest.mark.parametrize("num_frames", [1, 2, 60])
def test_motion_is_drawn_against_sound(num_frames):
    motion = np.random.default_rng(0).normal(size=(num_frames, 12)).astype("f4")
    for audio in (None, np.zeros(0, "f4"), np.sin(np.arange(640 * num_frames), dtype="f4")):
        assert plot.draw(motion, audio).startswith("<svg")
