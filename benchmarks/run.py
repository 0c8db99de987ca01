"""Measures the speed of the parts on this machine: `python -m benchmarks.run [PART ...]`.

Prints a table and appends one JSON object per figure to `benchmarks/results.jsonl`. Compilation is
excluded. Each figure is the median of several runs, with the range beside it.

| part | what it measures |
|---|---|
| machine | matrix products and copies, as a reference for the other parts |
| start | the import, `--help`, and the time until `generate` renders |
| data | drawing people, and speech features |
| ops | warps and convolutions, compared with XLA's own |
| clips | `generate`, from speech to an mp4 with sound |
| stream | the delay of frames while someone speaks |
| demo, photo, paper | encoding a portrait, extracting motion, rendering frames, sampling motion |
| training | a training step of each stage |
"""

import functools
import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import clips, start, stream, training
from benchmarks.report import report, time_ms
from gesture_jax import presets
from gesture_jax.inference.animator import Animator
from gesture_jax.models import motion_model
from gesture_jax.models.build import build_model
from gesture_jax.models.denoiser import MotionDenoiser, sample_motion
from gesture_jax.ops.cpu import winograd
from gesture_jax.ops.warp import deviation_warp, flow_warp
from gesture_jax.procedural import speaker
from gesture_jax.speech import extractor

# (batch, side, input channels, output channels) in VGG's first block, `photo` and `paper`.
_CONVS = (4, 64, 64, 64), (4, 32, 128, 128), (4, 32, 512, 512), (1, 128, 256, 256)
_CONVS += ((1, 256, 128, 128),)


def main(names: list[str]) -> None:
    parts = {
        "machine": _machine,
        "start": lambda: itertools.chain(_start(), start.figures(start.weights())),
        "clips": lambda: clips.figures(start.weights()),
        "stream": stream.bundled_figures,
        "data": _data,
        "ops": lambda: itertools.chain(_warps(), _convolutions()),
        "demo": lambda: itertools.chain(_stage1("demo"), _stage2("demo")),
        "photo": lambda: itertools.chain(_stage1("photo"), _stage2("photo")),
        "training": training.figures,
        "paper": lambda: itertools.chain(_stage1("paper"), _stage2("paper")),
    }
    unknown = sorted({*names} - {*parts})
    if unknown:
        sys.exit(f"{', '.join(unknown)}: no such part; choose among {', '.join(parts)}")
    for name in names or parts:
        report(parts[name]())


def _machine():
    square = jnp.ones((2048, 2048))
    product = jax.jit(jnp.matmul)
    times = time_ms(lambda: product(square, square))
    yield "matrix product, 2048 x 2048", "GFLOP/s", [2 * 2048**3 / ms / 1e6 for ms in times]
    for megabytes in (1, 256):
        line = jnp.ones(megabytes << 18)
        copy = jax.jit(lambda x: x + 1.0)
        times = time_ms(lambda copy=copy, line=line: copy(line))
        rates = [2 * line.nbytes / ms / 1e6 for ms in times]
        yield f"copy of {megabytes} MB, read and written", "GB/s", rates


def _start():
    """Times programs in processes of their own, as users run them."""
    programs = {
        "import gesture_jax": ["-c", "import gesture_jax"],
        "generate --help": ["-m", "gesture_jax.generate", "--help"],
    }
    for name, program in programs.items():
        run = lambda program=program: subprocess.run(
            [sys.executable, *program], check=False, capture_output=True
        )
        yield f"start: {name}", "ms", time_ms(run)


def _convolutions():
    """Times 3x3 convolutions and their kernel gradients, with XLA and with Winograd's algorithm."""
    random = np.random.default_rng(0)
    for batch, side, inputs, outputs in _CONVS:
        x = random.standard_normal((batch, side, side, inputs), np.float32)
        cotangent = random.standard_normal((batch, side, side, outputs), np.float32)
        kernel = random.standard_normal((3, 3, inputs, outputs), np.float32)
        xla_gradient = lambda x, kernel, y: jax.vjp(lambda k: _xla(x, k), kernel)[1](y)[0]
        convolve = lambda x, kernel: winograd.convolve(x, kernel, padding=1)
        gradient = lambda x, _, y: winograd.kernel_gradient(x, y, size=3, padding=1)
        gigaflops = 2 * 9 * batch * side**2 * inputs * outputs / 1e9
        name = f"convolution {batch} x {side}x{side}, {inputs} to {outputs}"
        for label, function, arrays in (
            ("XLA", _xla, (x, kernel)),
            ("Winograd", convolve, (x, kernel)),
            ("gradient by the kernel, XLA", xla_gradient, (x, kernel, cotangent)),
            ("gradient by the kernel, Winograd", gradient, (x, kernel, cotangent)),
        ):
            run = jax.jit(function)
            times = time_ms(lambda run=run, arrays=arrays: run(*arrays))
            yield f"{name}: {label}", "GFLOP/s", [1000 * gigaflops / ms for ms in times]


def _xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _data():
    draw = lambda: speaker.perform(identity=0, seed=0, duration_sec=2.0, size=256)
    yield "procedural speaker, 256 px", "ms/frame", time_ms(draw, per=50)
    audio = np.random.default_rng(0).standard_normal(160_000).astype(np.float32) * 0.1
    yield (
        "speech features",
        "ms/s of speech",
        time_ms(lambda: extractor.speech_features(audio), per=10),
    )


def _warps():
    """Times the warps and their gradients on the volume of the demo preset, in a batch of eight."""
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
    model = build_model(**presets.load(f"configs/stage1.py:{preset}").model)
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
    config = presets.load(f"configs/stage2.py:{preset}")
    grid = build_model(**presets.load(f"configs/stage1.py:{preset}").model).motion_grid
    model = MotionDenoiser(motion_dim=3 * grid**2 + 3, **config.model)
    params = jax.jit(model.init_variables)(jax.random.key(0))["params"]
    prior = jnp.zeros((1, model.num_prior, model.motion_dim))
    speech = jnp.zeros((1, model.window, model.speech_dim))
    options = dict(
        process=motion_model.make_process(config), sampling=motion_model.make_sampling(config)
    )
    for candidates in (1, 5):
        draw = functools.partial(sample_motion, model, num_candidates=candidates, **options)
        draw = jax.jit(lambda p, key, draw=draw: draw(p, key, prior, speech))
        steps = f"{config.sampler.num_steps} guided steps"
        name = f"{preset}: sample 3.2 s of motion, {steps}, the best of {candidates}"
        yield name, "ms", time_ms(lambda draw=draw: draw(params, jax.random.key(0)))


if __name__ == "__main__":
    main(sys.argv[1:])
