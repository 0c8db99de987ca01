"""Steps of training of both stages, as `train_lib` makes them, on random batches.

Of `paper` on a CPU without the terms that come late, the perceptual ones and the discriminator.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from benchmarks import ahead
from benchmarks.report import Figure, time_ms
from configs import stage1, stage2
from gesture_jax.ops import remat
from gesture_jax.ops.cpu import conv

_L1_ALONE = {"loss": {"perceptual": 0.0, "warp": 0.0, "adversarial": 0.0}, "st_lpips": False}


@dataclasses.dataclass(frozen=True)
class _Step:
    """What is timed: a step of a preset's stage, and what of its config differs."""

    stage: Any
    preset: str
    batch_size: int
    remat: str = "none"
    dtype: str = "float32"
    l1_alone: bool = False
    xla: bool = False  # Its convolutions, in place of our own on a CPU.

    def config(self) -> Any:
        config = self.stage.get_config(self.preset)
        config.update({"remat": self.remat, "dtype": self.dtype})
        config.update(_L1_ALONE if self.l1_alone else {})
        return config

    def __str__(self) -> str:
        words = [f"{self.preset}: a step of {self.stage.__name__.rpartition('.')[2]}"]
        words += [f"batch of {self.batch_size}", f"remat {self.remat}"]
        words += [self.dtype] if self.dtype != "float32" else []
        words += ["L1 and Adam"] if self.l1_alone else []
        return ", ".join(words + (["XLA's convolutions"] if self.xla else []))


def _steps() -> Iterator[_Step]:
    yield _Step(stage1, "demo", 4)
    yield _Step(stage2, "demo", 16)
    if jax.default_backend() == "cpu":
        yield _Step(stage1, "demo", 4, xla=True)
        # Which a CPU computes by way of float32: of `paper` a step takes minutes.
        yield _Step(stage1, "demo", 4, dtype="bfloat16")
        yield _Step(stage2, "demo", 16, dtype="bfloat16")
        yield from (_Step(stage2, "paper", 16, policy) for policy in remat.POLICIES)
        yield from (_Step(stage1, "paper", 1, policy, l1_alone=True) for policy in remat.POLICIES)
        yield _Step(stage1, "paper", 1, l1_alone=True, xla=True)
        return
    yield _Step(stage1, "photo", 16)
    for dtype in ("float32", "bfloat16"):
        yield from (_Step(stage2, "paper", 128, policy, dtype) for policy in remat.POLICIES)
        yield from (_Step(stage1, "paper", 8, policy, dtype) for policy in remat.POLICIES)
    yield _Step(stage1, "paper", 16, dtype="bfloat16")
    yield _Step(stage1, "paper", 1, l1_alone=True)


def figures() -> Iterator[Figure]:
    """Time and memory of each, without compilation."""
    for step in _steps():
        config = step.config()
        program = ahead.train_step(config, jax.devices()[:1], step.batch_size)
        running_step = conv.use_xla_conv(ahead.running_step) if step.xla else ahead.running_step
        run, memory = running_step(config, program)
        yield str(step), "ms", time_ms(run)
        yield f"{step}: memory", "GB", [memory.total / 1e9]
