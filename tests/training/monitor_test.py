"""Measures of a running training."""

import contextlib
import json
import re
import time

import jax
import jax.numpy as jnp
import pytest

from gesture_jax.parallel import hardware
from gesture_jax.training import monitor


@pytest.fixture
def make_watch(tmp_path):
    with contextlib.ExitStack() as stack:
        make = lambda **options: stack.enter_context(
            contextlib.closing(monitor.TrainingMonitor(tmp_path, batch_size=4, **options))
        )
        yield make


def _double():
    """Returns a new step of 2 x 3 x 3 x 3 operations that is not compiled yet."""
    return jax.jit(lambda x: 2 * x @ x.T)


def test_rates_count_steps_examples_and_operations(make_watch, tmp_path):
    ours, step_fn = make_watch(), _double()
    for step in (1, 2, 3):
        with ours.waiting():
            time.sleep(0.02)
        ours.step(step, step_fn, jnp.ones((3, 3)))
    rates = ours.read(3)
    assert rates["time/steps_per_sec"] > 0
    assert rates["time/examples_per_sec"] == pytest.approx(4 * rates["time/steps_per_sec"])
    assert rates["time/flops_per_sec"] == pytest.approx(54 * rates["time/steps_per_sec"])
    assert 0.02 * rates["time/steps_per_sec"] <= rates["time/input_share"] < 1
    assert 0.05 < rates["memory/host_gib"] < 100
    assert "time/mfu" not in rates  # A simulated device has no known peak.
    assert "time/steps_per_sec" not in ours.read(3)
    assert json.loads((tmp_path / "heartbeat.json").read_text())["step"] == 1


def test_only_a_second_compilation_is_reported(make_watch, capsys):
    ours, step_fn = make_watch(), _double()
    for step in (1, 2):
        ours.step(step, step_fn, jnp.ones((3, 3)))
    assert ours.read(2)["time/late_compilations"] == 0 and not capsys.readouterr().err
    other = jnp.ones((5, 5))
    ours.step(3, step_fn, other)
    assert ours.read(3)["time/late_compilations"] == 1
    assert capsys.readouterr().err.startswith("step 3: compiled again, as shapes")


def test_a_stalled_input_is_reported_while_it_stalls(make_watch, capsys):
    ours = make_watch(patience_sec=0.05)
    with ours.waiting():
        while not (printed := capsys.readouterr().err):
            time.sleep(0.01)
    wanted = r"the input has stalled: no batch for \d+ s; the run waits for the disk"
    assert re.match(wanted, printed)
    assert re.match(r"data came after \d+ s", capsys.readouterr().err)
    with ours.waiting():
        pass
    assert not capsys.readouterr().err


def test_slow_input_is_reported_once(make_watch, capsys, monkeypatch):
    monkeypatch.setattr(monitor, "_HEARTBEAT_SEC", 0.01)
    ours, step_fn = make_watch(), _double()
    for step in (1, 2, 3):
        with ours.waiting():
            time.sleep(0.05)
        ours.step(step, step_fn, jnp.ones((3, 3)))
        assert ours.read(step).get("time/input_share", 1.0) > 0.5
    assert capsys.readouterr().err.count("waiting for data; more processes read faster") == 1


@pytest.mark.parametrize("last", [2, 9])
def test_a_trace_of_some_steps(tmp_path, last):
    """A trace is also written if the run ends before the last step of the trace."""
    traces, step_fn = lambda: list((tmp_path / "profile").rglob("*.xplane.pb")), _double()
    ours = monitor.TrainingMonitor(tmp_path, batch_size=4, profile_steps=(2, last))
    with contextlib.closing(ours):
        for step in (1, 2, 3):
            ours.step(step, step_fn, jnp.ones((3, 3)))
        assert len(traces()) == (last == 2)
    assert len(traces()) == 1


def test_peaks_by_kind_of_device():
    flops = lambda kind: hardware.find_chip(kind).flops
    assert flops("TPU v5 lite") == 197e12 and flops("TPU v5p") == flops("TPU v5") == 459e12
    assert flops("NVIDIA H100 80GB HBM3") == 989e12 > flops("NVIDIA H100 PCIe")
    assert hardware.find_chip("NVIDIA A100-SXM4-80GB").memory == 80e9
    assert hardware.find_chip("cpu") is None
