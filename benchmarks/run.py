"""How fast the parts are on this machine: `python -m benchmarks.run`.

Prints a table and appends one JSON object a figure to `benchmarks/results.jsonl`. Compilation does
not count. Each figure is the median of several runs, with the range beside it.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import report, time_ms
from gesture_jax import stage2
from gesture_jax.animator import Animator
from gesture_jax.configs import stage1 as stage1_config
from gesture_jax.configs import stage2 as stage2_config
from gesture_jax.data import speaker, speech
from gesture_jax.models.build import build_model
from gesture_jax.models.denoiser import MotionDenoiser, sample_motion
from gesture_jax.ops.warp import deviation_warp, flow_warp


def main() -> None:
    parts = _data(), _warps(), _stage1("demo"), _stage2("demo"), _stage1("paper"), _stage2("paper")
    report(itertools.chain(*parts))


def _data():
    draw = lambda: speaker.perform(identity=0, seed=0, duration_sec=2.0, size=256)
    yield "procedural speaker, 256 px", "ms/frame", time_ms(draw, per=50)
    audio = np.random.default_rng(0).standard_normal(160_000).astype(np.float32) * 0.1
    yield (
        "speech features",
        "ms/s of speech",
        time_ms(lambda: speech.speech_features(audio), per=10),
    )


def _warps():
    """The volume of the demo preset, a batch of eight, and its gradient."""
    random = np.random.default_rng(0)
    volume = random.standard_normal((8, 16, 16, 32), np.float32)
    field = random.uniform(-0.2, 0.2, (8, 16, 16, 3, 3)).astype(np.float32)
    shift = np.zeros((8, 3), np.float32)
    for warp in (deviation_warp, flow_warp):
        forward = jax.jit(warp)
        loss = lambda v, f, s, warp=warp: jnp.sum(warp(v, f, s) ** 2)
        backward = jax.jit(jax.grad(loss, argnums=(0, 1)))
        name = f"{warp.__name__}, 8 x 16x16x32"
        yield name, "ms", time_ms(lambda f=forward: f(volume, field, shift))
        yield f"{name}, gradient", "ms", time_ms(lambda f=backward: f(volume, field, shift))


def _stage1(preset: str):
    model = build_model(**stage1_config.get_config(preset).model)
    image = np.random.default_rng(0).random((model.resolution, model.resolution, 3), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), image[None], image[None])
    animator = Animator(model, variables)
    source = animator.encode_source(image)
    motion = animator.extract_motion(image[None]).repeat(4, axis=0)
    encode = lambda: animator.encode_source(image).features
    yield f"{preset}: encode the portrait", "ms", time_ms(encode)
    extract = lambda: animator.extract_motion(np.stack([image] * 4))
    yield f"{preset}: extract motion", "ms/frame", time_ms(extract, per=4)
    yield f"{preset}: render", "ms/frame", time_ms(lambda: animator.render(source, motion), per=4)


def _stage2(preset: str):
    config = stage2_config.get_config(preset)
    grid = build_model(**stage1_config.get_config(preset).model).motion_grid
    model = MotionDenoiser(motion_dim=3 * grid**2 + 3, **config.model)
    params = jax.jit(model.init_variables)(jax.random.key(0))["params"]
    prior = jnp.zeros((1, model.num_prior, model.motion_dim))
    heard = jnp.zeros((1, model.window, model.speech_dim))
    options = dict(process=stage2.make_process(config), sampling=stage2.make_sampling(config))
    draw = jax.jit(lambda p, key: sample_motion(model, p, key, prior, heard, **options))
    name = f"{preset}: sample 3.2 s of motion, {config.sampler.num_steps} guided steps"
    yield name, "ms", time_ms(lambda: draw(params, jax.random.key(0)))


if __name__ == "__main__":
    main()
