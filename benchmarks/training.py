"""Times training steps of both stages, made by `training.loop`, on random batches.

On a CPU, stage 1 of `paper` is measured without perceptual and adversarial losses.
"""

import dataclasses
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from benchmarks import ahead
from benchmarks.report import Figure, time_ms
from gesture_jax import presets
from gesture_jax.ops import remat
from gesture_jax.ops.cpu import conv

_L1_ALONE = {"loss": {"perceptual": 0.0, "warp": 0.0, "adversarial": 0.0}, "st_lpips": False}


@dataclasses.dataclass(frozen=True)
class _Step:
    """A training step to time: stage and preset, and differences from the preset's config."""

    stage: str
    preset: str
    batch_size: int
    remat: str = "none"
    dtype: str = "float32"
    l1_alone: bool = False
    xla: bool = False  # Whether to use XLA's convolutions instead of our own for CPUs.

    def config(self) -> ConfigDict:
        config = presets.load(f"configs/{self.stage}.py:{self.preset}")
        config.update({"remat": self.remat, "dtype": self.dtype})
        config.update(_L1_ALONE if self.l1_alone else {})
        return config

    def __str__(self) -> str:
        words = [f"{self.preset}: a step of {self.stage}"]
        words += [f"batch of {self.batch_size}", f"remat {self.remat}"]
        words += [self.dtype] if self.dtype != "float32" else []
        words += ["L1 and Adam"] if self.l1_alone else []
        return ", ".join(words + (["XLA's convolutions"] if self.xla else []))


def _steps() -> Iterator[_Step]:
    yield _Step("stage1", "demo", 4)
    yield _Step("stage2", "demo", 16)
    if jax.default_backend() == "cpu":
        yield _Step("stage1", "demo", 4, xla=True)
        # A CPU computes bfloat16 by converting to float32; a step of `paper` takes minutes.
        yield _Step("stage1", "demo", 4, dtype="bfloat16")
        yield _Step("stage2", "demo", 16, dtype="bfloat16")
        yield from (_Step("stage2", "paper", 16, policy) for policy in remat.POLICIES)
        yield from (_Step("stage1", "paper", 1, policy, l1_alone=True) for policy in remat.POLICIES)
        yield _Step("stage1", "paper", 1, l1_alone=True, xla=True)
        return
    yield _Step("stage1", "photo", 16)
    for dtype in ("float32", "bfloat16"):
        yield from (_Step("stage2", "paper", 128, policy, dtype) for policy in remat.POLICIES)
        yield from (_Step("stage1", "paper", 8, policy, dtype) for policy in remat.POLICIES)
    yield _Step("stage1", "paper", 16, dtype="bfloat16")
    yield _Step("stage1", "paper", 1, l1_alone=True)


def figures() -> Iterator[Figure]:
    """Yields time and memory of each step, without compilation."""
    for step in _steps():
        config = step.config()
        program = ahead.train_step(config, jax.devices()[:1], step.batch_size)
        running_step = conv.use_xla_conv(ahead.running_step) if step.xla else ahead.running_step
        run, memory = running_step(config, program)
        yield str(step), "ms", time_ms(run)
        yield f"{step}: memory", "GB", [memory.total / 1e9]
