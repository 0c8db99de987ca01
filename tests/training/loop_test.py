"""The training loop: sharded, resumable to the bit, and safe for saved checkpoints."""

import json
import shutil

import grain
import jax
import numpy as np
import optax
import pytest
from tqdm import tqdm

from configs import stage1 as stage1_config
from configs import stage2 as stage2_config
from gesture_jax.checkpoint import checkpoints
from gesture_jax.errors import InputError
from gesture_jax.parallel import hardware, sharding
from gesture_jax.training import loop, optim, step_metrics
from gesture_jax.training.evaluator import Evaluator
from gesture_jax.training.metrics_writer import MetricsWriter, read_metrics
from tests import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def _config1(**changes):
    config = stage1_config.get_config("smoke")
    config.update_from_flattened_dict(changes)
    return config


def _config2(stage1_workdir, **changes):
    config = stage2_config.get_config("smoke")
    config.stage1_workdir = str(stage1_workdir)
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def run1(tmp_path_factory):
    """Four uninterrupted steps of stage 1."""
    workdir = tmp_path_factory.mktemp("run") / "stage1"
    return workdir, loop.train(_config1(), str(workdir))


@pytest.fixture(scope="module")
def run2(run1):
    workdir = run1[0].parent / "stage2"
    return workdir, loop.train(_config2(run1[0]), str(workdir))


def _equal(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_a_workdir_contains_config_samples_and_metrics(run1):
    workdir, state = run1
    assert int(state.step) == 4
    config = json.loads((workdir / "config.json").read_text())
    assert config["stage"] == "stage1" and np.shape(config["shoulders"]) == (3, 2)
    assert sorted(path.name for path in (workdir / "samples").iterdir()) == [
        "step_0000002.png", "step_0000004.png",
    ]  # fmt: skip
    assert list((workdir / "tensorboard").iterdir())
    records = read_metrics(workdir)
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
    assert all(np.isfinite(value) for record in records for value in record.values())
    tested = [r for r in records if "test/psnr" in r]
    assert len(tested) == 2 and tested[0]["test/psnr_copy_source"] > 10


def test_the_discriminator_starts_at_its_step(run1):
    """`smoke` uses it from the third step on; before, its terms are not in the loss."""
    records = [record for record in read_metrics(run1[0]) if "discriminator" in record]
    for name in ("discriminator", "adversarial", "feature_matching"):
        assert [record[name] != 0 for record in records] == [False, False, True, True]
    first, last = records[0], records[-1]
    assert first["loss"] == pytest.approx(
        10 * first["pixel"] + 50 * first["squared"] + 0.1 * first["warp"], rel=1e-4
    )
    game = last["discriminator"] + last["adversarial"] + 10 * last["feature_matching"]
    rest = 10 * last["pixel"] + 50 * last["squared"] + 0.1 * last["warp"]
    assert last["loss"] == pytest.approx(rest + game, rel=1e-4)


@pytest.mark.slow
def test_perceptual_loss_and_st_lpips(run1, tmp_path):
    """Both use the trained VGG-16; pictures of 32 pixels have one scale."""
    changes = {"loss.perceptual": 10.0, "st_lpips": True, "num_steps": 2}
    changes["data.path"] = str(run1[0] / "dataset")
    try:
        loop.train(_config1(**changes), str(tmp_path))
    except InputError as error:
        if "could not be fetched" not in str(error):
            raise
        pytest.skip(str(error))
    records = read_metrics(tmp_path)
    first = next(record for record in records if "perceptual" in record)
    terms = 10 * first["pixel"] + 50 * first["squared"] + 0.1 * first["warp"]
    assert first["loss"] == pytest.approx(terms + 10 * first["perceptual"], rel=1e-4)
    tested = next(record for record in records if "test/st_lpips" in record)
    assert tested["test/st_lpips"] > tested["test/st_lpips_copy_source"] > 0


def test_the_state_is_replicated_over_eight_devices(run1):
    leaf = jax.tree.leaves(run1[1].params)[0]
    assert len(leaf.sharding.device_set) == 8 and leaf.is_fully_replicated


def test_training_changes_parameters_and_average(run1):
    _, state = run1
    assert not _equal(state.params, state.ema_params)
    task = loop.TASKS["stage1"](_config1(), str(run1[0]))
    fresh = jax.jit(task.init)(jax.random.key(0))
    assert not _equal(state.params, fresh[0])
    assert fresh[1] == {}  # The compact network keeps no statistics.


def test_frames_in_device_memory_train_the_same(run1, tmp_path):
    """The pairs of frames are the same; only rounding differs."""
    data = str(run1[0] / "dataset")
    config = _config1(**{"data.on_device": True, "data.path": data, "num_steps": 2})
    loop.train(config, str(tmp_path / "run"))
    alike, expected = (
        [record["loss"] for record in read_metrics(path) if "loss" in record]
        for path in (tmp_path / "run", run1[0])
    )
    np.testing.assert_allclose(alike, expected[:2], rtol=1e-4)


def test_frames_that_would_fill_the_device_are_refused(run1, tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "device_memory", lambda: 10**5)
    config = _config1(**{"data.on_device": True, "data.path": str(run1[0] / "dataset")})
    with pytest.raises(InputError, match=r"frames take .* leave"):
        loop.train(config, str(tmp_path / "run"))


@pytest.mark.parametrize("stage", [1, 2])
def test_resuming_is_exact_to_the_bit(run1, run2, tmp_path, stage):
    straight, state = {1: run1, 2: run2}[stage]
    shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(
        tmp_path / "run" / "checkpoints" / "4"
    )  # As if the run was killed after step 2 or 3.
    config = checkpoints.read_config(straight, stage=f"stage{stage}")
    resumed = loop.train(config, str(tmp_path / "run"))
    assert _equal(resumed, state)
    assert tiny.records(tmp_path / "run") == tiny.records(straight)


def test_finished_runs_stay_as_they_are(run1):
    workdir, state = run1
    before = (workdir / "metrics.jsonl").read_text()
    again = loop.train(_config1(), str(workdir))
    assert _equal(again, state)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_another_config_is_refused_with_the_keys_that_differ(run1):
    with pytest.raises(InputError, match=r"model\.width, optim\.learning_rate"):
        changes = {"model.width": 16, "optim.learning_rate": 1.0}
        loop.train(_config1(**changes), str(run1[0]))


def test_a_broken_state_is_not_saved(run1, tmp_path, monkeypatch):
    class Broken(loop.TASKS["stage1"]):
        def loss(self, *arguments):
            loss, rest = super().loss(*arguments)
            return loss * np.nan, rest

    monkeypatch.setitem(loop.TASKS, "stage1", Broken)
    told = "not finite at step 1: .*loss nan.*; nothing was saved yet; try a lower"
    with pytest.raises(FloatingPointError, match=told):
        loop.train(_config1(**{"data.path": str(run1[0] / "dataset")}), str(tmp_path))
    assert not any(path.name.isdigit() for path in (tmp_path / "checkpoints").glob("*"))


def test_a_gradient_that_explodes_stops_the_run(run1, tmp_path):
    """The error names step, size and cause; earlier checkpoints stay intact."""
    straight, _ = run1
    shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    config = checkpoints.read_config(straight, stage="stage1")
    config.update_from_flattened_dict({"optim.max_grad_norm": 1e-6})
    told = (
        r"gradient norm [\d.]+ at step 3 is above optim\.max_grad_norm, 1e-06; the largest term of "
        r"the loss is (pixel|squared|warp|discriminator|feature_matching) [\d.]+; "
        r"the checkpoint of step 2 is whole; try a lower"
    )
    with pytest.raises(FloatingPointError, match=told):
        loop.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoints" / "4").exists()


def test_a_step_without_logging_is_checked_before_it_is_saved(run1, tmp_path):
    changes = {"optim.max_grad_norm": 1e-6, "log_every_steps": 1000, "eval_every_steps": 1000}
    config = _config1(**changes, **{"data.path": str(run1[0] / "dataset")})
    with pytest.raises(FloatingPointError, match=r"at step 2 is above .* nothing was saved yet"):
        loop.train(config, str(tmp_path))
    assert not any(path.name.isdigit() for path in (tmp_path / "checkpoints").glob("*"))


def test_a_gradient_within_its_limit_is_accepted(run1):
    norm = max(record.get("grad_norm", 0.0) for record in read_metrics(run1[0]))
    metrics = {"loss": 1.0, "grad_norm": norm}
    for limit in (0.0, norm):
        step_metrics.fetch(_config1(**{"optim.max_grad_norm": limit}), 1, metrics)


def test_the_largest_term_is_weighted_as_in_the_loss():
    config = _config1(**{"optim.max_grad_norm": 5.0, "loss.pixel": 10.0, "loss.warp": 0.1})
    metrics = {"loss": 4.3, "grad_norm": 7.0, "pixel": 0.4, "warp": 3.0, "psnr": 20.0}
    with pytest.raises(FloatingPointError, match=r"norm 7 at step 9 .*, 5; .* is pixel 4$"):
        step_metrics.fetch(config, 9, metrics)


class _Toy:
    """A task for the evaluator with two batches; the last example is padding."""

    def test_batches(self):
        value = np.array([1.0, np.nan, 3.0, 5.0, np.nan, 7.0], np.float32)
        mask = np.array([1, 1, 1, 1, 1, 0], np.float32)
        return [{"value": value[:3], "mask": mask[:3]}, {"value": value[3:], "mask": mask[3:]}]

    def evaluate(self, variables, frozen, batch, key):
        value = batch["value"]
        return {
            "some": value,
            "all": np.ones(3, np.float32) * variables["params"],
            "none": value * np.nan,
            "padding_broken": jax.numpy.where(batch["mask"] > 0, 2.0, np.nan),
            "table": jax.numpy.stack([value, value], axis=1),
        }

    def summarise(self, tables):
        return {"rows": float(len(tables["table"]))}

    def draw_samples(self, variables, batch, key):
        return np.zeros((8, 8, 3), np.uint8)


def test_examples_without_a_value_are_left_out_of_the_average(tmp_path):
    state = loop.TrainState(0, 4.0, 4.0, {}, None)
    mesh = sharding.make_mesh(batch_size=8)
    evaluator = Evaluator(_Toy(), {}, jax.random.key(0), tmp_path, mesh)
    writer = MetricsWriter(tmp_path)
    evaluator.run(1, state, writer, tqdm(disable=True))
    writer.close()
    assert read_metrics(tmp_path) == [
        {"step": 1, "test/some": 3.0, "test/all": 4.0, "test/padding_broken": 2.0, "test/rows": 5.0}
    ]


def test_a_discriminators_optimiser_state_is_saved_and_restored(tmp_path):
    """The two partitions of the optimiser have masked leaves without arrays."""
    config = stage1_config.get_config("smoke").optim
    config.update({"discriminator": {"learning_rate": 1e-3, "b1": 0.0, "b2": 0.9}})
    params = {"decoder": {"w": np.ones(3, np.float32)}, "discriminator": {"w": np.ones(2, "f4")}}
    optimizer = optim.make_optimizer(config, num_steps=10)
    _, opt_state = optimizer.update(params, optimizer.init(params), params)
    state = loop.TrainState(jax.numpy.int32(1), params, params, {}, opt_state)
    batches = iter(grain.MapDataset.range(4).repeat().to_iter_dataset())
    saver = checkpoints.Checkpointer(str(tmp_path), keep=1)
    saver.save(1, state, batches)
    saver.wait()
    spread = sharding.replicated(sharding.make_mesh(batch_size=8))
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread), state
    )
    restored = saver.restore(abstract, batches)
    saver.close()
    if hasattr(batches, "close"):  # Grain 0.2.11 has none.
        batches.close()
    assert _equal(restored, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)


def test_frozen_parts_do_not_change_to_the_bit():
    """Neither by weight decay, nor by rounding in the average; the other parts do change."""
    config = stage1_config.get_config("smoke").optim
    config.update({"weight_decay": 0.1, "warmup_steps": 0, "frozen_parts": ("extractor",)})
    random = np.random.default_rng(0)
    draw = lambda: {"w": jax.numpy.asarray(random.standard_normal(999, np.float32))}
    start = {"extractor": draw(), "decoder": draw()}
    optimizer = optim.make_optimizer(config, num_steps=20)

    @jax.jit
    def step(params, ema, opt_state, number):
        gradient = jax.tree.map(jax.numpy.ones_like, params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        return params, optim.update_ema(ema, params, number, decay=0.98), opt_state

    params, ema, opt_state = start, start, optimizer.init(start)
    for number in range(20):
        params, ema, opt_state = step(params, ema, opt_state, number)
    assert _equal((params["extractor"], ema["extractor"]), (start["extractor"],) * 2)
    for changed in (params, ema):
        assert not np.isclose(changed["decoder"]["w"], start["decoder"]["w"]).any()
    assert not _equal(params["decoder"], ema["decoder"])


def test_evaluation_can_be_left_out(run1, tmp_path):
    data = str(run1[0] / "dataset")
    loop.train(_config1(**{"eval_every_steps": 0, "data.path": data}), str(tmp_path))
    records = read_metrics(tmp_path)
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4]
    assert not [name for record in records for name in record if name.startswith("test/")]
    assert not (tmp_path / "samples").exists() or not list((tmp_path / "samples").iterdir())
    assert checkpoints.newest_step(tmp_path) == 4


def test_weights_for_inference_are_the_averaged_ones(run1):
    from gesture_jax.inference.animator import Animator

    workdir, state = run1
    animator = Animator.load(workdir)
    # The discriminator is not part of the model.
    averaged = {name: part for name, part in state.ema_params.items() if name != "discriminator"}
    assert _equal(animator._variables["params"], averaged)


def test_eight_devices_compute_the_gradient_of_one(run1):
    """A batch over eight devices has the same gradient as on one device."""
    config = _config1(**{"data.path": str(run1[0] / "dataset")})
    task = loop.TASKS["stage1"](config, "")
    batch = next(task.train_batches())
    params, model_state = jax.jit(task.init)(jax.random.key(0))

    @jax.jit
    def gradient(params, batch):
        loss = lambda p: task.loss(p, model_state, {}, batch, jax.random.key(0), 0)[0]
        return jax.value_and_grad(loss)(params)

    mesh = sharding.make_mesh(batch_size=8)
    put = jax.device_put(params, sharding.replicated(mesh))
    loss8, grads8 = gradient(put, sharding.shard_batch(batch, mesh))
    one = jax.devices()[0]
    loss1, grads1 = gradient(jax.device_put(params, one), jax.device_put(batch, one))
    assert float(loss8) == pytest.approx(float(loss1), rel=1e-5)
    assert float(optax.tree.norm(grads8)) == pytest.approx(float(optax.tree.norm(grads1)), rel=1e-3)


def test_stage2_reports_control_metrics(run2):
    records = [r for r in read_metrics(run2[0]) if "test/speed_error" in r]
    assert records[-1]["test/speed_error_still"] == pytest.approx(1.0)
    assert records[-1]["test/speed_error_shuffled_speech"] > 0
    assert {"test/fgd", "test/fgd_shuffled_speech", "test/fgd_still"} <= set(records[-1])


@pytest.mark.slow
def test_stage2_is_conditioned_on_speakers(run1, run2, tmp_path):
    changes = {"speaker_conditioning": True, "num_steps": 1, "optim.name": "adan", "fgd_steps": 0}
    config = _config2(run1[0], **changes)
    state = loop.train(config, str(tmp_path))
    assert tuple(config.speakers) == ("procedural0", "procedural1")
    assert state.params["manner"]["embedding"].shape[0] == 2
    assert "manner" not in run2[1].params
    batch = next(loop.TASKS["stage2"](config, "").train_batches())
    assert set(batch["speaker"].tolist()) <= {0, 1}


def test_damaged_statistics_are_refused(run1, run2, monkeypatch):
    from gesture_jax.inference import loading
    from gesture_jax.inference.animator import Animator

    animator = Animator.load(run1[0])
    load = checkpoints.load_variables

    def damaged(*args, **options):
        variables, step = load(*args, **options)
        variables["statistics"]["motion_std"] = 0.0 * variables["statistics"]["motion_std"]
        return variables, step

    monkeypatch.setattr(loading.checkpoints, "load_variables", damaged)
    with pytest.raises(InputError, match="statistics of its training set are damaged"):
        loading.load_stage2(run2[0], animator)


def test_the_checkpoint_contains_the_statistics(run2):
    statistics = run2[1].model_state["statistics"]
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(statistics))
    assert (np.asarray(statistics["motion_std"]) > 0).all()


def test_stages_are_not_mistaken_for_each_other(run1, run2, tmp_path):
    with pytest.raises(InputError, match="checkpoint of stage2, but stage1 is wanted"):
        checkpoints.read_config(run2[0], stage="stage1")
    with pytest.raises(InputError, match="no stage1 checkpoint here"):
        checkpoints.read_config(tmp_path, stage="stage1")
    with pytest.raises(InputError, match=r"pass --config\.stage1_workdir"):
        loop.train(_config2(""), str(tmp_path))


def test_motions_of_an_earlier_stage1_are_not_used(run1, run2, tmp_path):
    """A stage 2 that was trained on them is refused as well."""
    from gesture_jax.inference.generator import GestureGenerator

    shutil.copytree(run1[0], tmp_path / "stage1")
    shutil.rmtree(tmp_path / "stage1" / "checkpoints" / "4")
    with pytest.raises(InputError, match="of stage 1 at step 4, but it is at step 2 now"):
        loop.train(_config2(tmp_path / "stage1"), str(tmp_path / "stage2"))
    with pytest.raises(InputError, match="trained on stage 1 at step 4, but this one is at step 2"):
        GestureGenerator.load(stage1=tmp_path / "stage1", stage2=run2[0])


def test_weights_that_do_not_fit_are_named(run1, tmp_path):
    from gesture_jax.inference.animator import Animator

    shutil.copytree(run1[0], tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["model"]["extractor_width"] = 16
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="another shape, the first being"):
        Animator.load(tmp_path / "run")


def test_the_paper_preset_needs_data(tmp_path):
    with pytest.raises(InputError, match=r"gesture_jax\.prepare"):
        loop.train(stage1_config.get_config("paper"), str(tmp_path))
    assert not (tmp_path / "config.json").exists()


def test_data_of_another_size_is_refused(run1, tmp_path):
    changes = {"data.path": str(run1[0] / "dataset"), "model.resolution": 64}
    with pytest.raises(InputError, match="prepare with --size=64"):
        loop.train(_config1(**changes), str(tmp_path))


def test_batches_must_divide_over_the_devices():
    with pytest.raises(InputError, match="8 devices"):
        sharding.make_mesh(batch_size=12)


def test_metrics_after_the_checkpoint_are_dropped(tmp_path):
    writer = MetricsWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write_scalars(step, {"loss": float(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # A line as a killed process leaves it.
    writer = MetricsWriter(tmp_path, step=2)
    writer.write_scalars(3, {"loss": 30.0})
    writer.close()
    assert [r["loss"] for r in read_metrics(tmp_path)] == [1.0, 2.0, 30.0]


@pytest.mark.parametrize("name", ["adamw", "adan"])
def test_optimisers_reach_the_minimum(name):
    config = stage2_config.get_config("smoke").optim
    config.update({"name": name, "learning_rate": 0.1, "weight_decay": 0.0})
    optimizer = optim.make_optimizer(config, num_steps=200)
    params = {"w": np.array([3.0, -2.0], np.float32)}
    opt_state = optimizer.init(params)
    for _ in range(200):
        updates, opt_state = optimizer.update({"w": 2 * params["w"]}, opt_state, params)
        params = optax.apply_updates(params, updates)
    assert np.abs(params["w"]).max() < 0.3


def test_unknown_optimisers_are_refused():
    config = stage2_config.get_config("smoke").optim
    config.name = "newton"
    with pytest.raises(InputError, match="choose adamw or adan"):
        optim.make_optimizer(config, num_steps=1)


def test_the_average_warms_up():
    average = {"w": np.float32(0.0)}
    for step in range(200):
        average = optim.update_ema(average, {"w": np.float32(1.0)}, np.int32(step), decay=0.99)
    assert 0.8 < float(average["w"]) <= 1.0
    first = optim.update_ema({"w": 0.0}, {"w": 1.0}, np.int32(0), decay=0.99)
    assert float(first["w"]) == pytest.approx(0.9)
