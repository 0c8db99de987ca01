# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Inside the model
# This notebook shows the parts that `docs/method.md` describes: the deviation field, the warp, the
# gate, and how noise becomes gestures. It uses a model that you trained, or the bundled one.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import mediapy
import numpy as np

from gesture_jax.checkpoint import checkpoints
from gesture_jax.inference.animator import Animator, abstract_variables
from gesture_jax.inference.generator import load_stage2
from gesture_jax.media import images
from gesture_jax.models.motion_space import standardise_speech
from gesture_jax.procedural import speaker
from gesture_jax.speech.extractor import speech_features
from gesture_jax.training import stage2

# %% tags=["parameters"]
# Your own workdirs; without them, the bundled weights are used.
STAGE1, STAGE2 = os.environ.get("STAGE1"), os.environ.get("STAGE2")

# %%
if not STAGE1:
    from gesture_jax.inference import bundled

    STAGE1, STAGE2 = bundled.find().values()
animator = Animator.load(STAGE1)
model, size = animator.model, animator.resolution
variables, _ = checkpoints.load_variables(STAGE1, abstract_variables(model))


def apply(method, *arguments, **options):
    return model.apply(variables, *arguments, method=method, **options)


# %% [markdown]
# ## Source, driving frame and reconstruction
# All that the network gets of the driving frame is its motion feature, with a rotation for each
# cell.

# %%
done = speaker.perform(identity=2, seed=7, duration_sec=3.2, size=size)
joints = done.joints[:, speaker.JOINT_NAMES.index("right_wrist")]
moved = int(np.argmax(np.abs(joints - joints[0]).sum(-1)))  # The frame with the largest motion.
source = animator.encode_source(done.frames[0])
motion = animator.extract_motion(done.frames[[0, moved]])
reconstruction = animator.render(source, motion)[1]
print(f"{motion.shape[1]} numbers: {model.motion_grid} x {model.motion_grid} rotations, and 3 more")
mediapy.show_images(
    {"source": done.frames[0], "driving": done.frames[moved], "reconstruction": reconstruction},
    height=256,
)

# %% [markdown]
# ## The deviation field
# The network computes a matrix for each cell of the latent volume from that feature. The left
# picture shows the size of each matrix; zero means no deviation. The arrows on the right are its
# last column. If the warp is a plain displacement (`warp_kind="flow"`), they point to the place in
# the source from which each cell is drawn.

# %%
field = np.asarray(apply("field", jnp.asarray(motion[1:]), source.features.motion))[0]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.5))
left.imshow(np.linalg.norm(field, axis=(-2, -1)))
left.set_title("size of the deviation")
right.imshow(done.frames[moved], extent=(-1, 1, 1, -1))
place = np.linspace(-1, 1, len(field))
right.quiver(
    *np.meshgrid(place, place), field[..., 0, 2], field[..., 1, 2],
    angles="xy", scale_units="xy", scale=1, color="tab:red",
)  # fmt: skip
right.set_title(f"its last column ({model.warp_kind})")
plt.show()

# %% [markdown]
# ## The warp
# Here is the source's latent volume before and after the warp. Red, green and blue are the three
# principal components of its many channels.

# %%
before = np.asarray(source.features.volume)[0]
after = np.asarray(apply("warp", source.features, jnp.asarray(motion[1:])))[0]
flat = before.reshape(-1, before.shape[-1])
mean, (*_, axes) = flat.mean(0), np.linalg.svd(flat - flat.mean(0), full_matrices=False)
projected = [(volume - mean) @ axes[:3].T for volume in (before, after)]
low, high = np.percentile(projected[0], [1, 99], axis=(0, 1))
before, after = (np.clip((picture - low) / (high - low), 0, 1) for picture in projected)
mediapy.show_images({"volume of the source": before, "warped": after}, height=256)

# %% [markdown]
# ## The gate
# For each pixel the decoder chooses between drawing (white) and the source's own static detail
# (black). It has learned this: moving parts must not be copied, and static parts need not be drawn.

# %%
_, collections = apply(
    "render", source.features, jnp.asarray(motion[1:]), mutable=["intermediates"]
)
masks = [np.asarray(mask)[0].mean(-1) for mask in jax.tree.leaves(collections)]
difference = np.abs(done.frames[moved] / 255.0 - done.frames[0] / 255.0).mean(-1)
shown = {f"gate {number}": mask for number, mask in enumerate(masks)}
mediapy.show_images({"what moved": difference, **shown}, height=256, cmap="gray")

# %% [markdown]
# ## Noise that becomes gestures
# Stage 2 generates a window of motion. At decreasing diffusion times, the sampler lets the network
# predict the clean motion; here is each prediction, for the speech above.

# %%
config, learned = load_stage2(STAGE2, animator)
space, denoiser = stage2.build(config)
sampling, statistics = stage2.make_sampling(config), learned["statistics"]
features = speech_features(done.audio)[: denoiser.window]
speech = standardise_speech(jnp.asarray(features), statistics)[None]
own = space.from_feature(jnp.asarray(motion[0]))
held = jnp.repeat(own[None], denoiser.num_prior, axis=0)  # At rest, in the portrait's own pose.
prior = space.encode_prior(held, own, statistics)[None]
speaker_number = jnp.zeros(1, int) if config.speakers else None

predictions = []


def denoise(noisy, time):
    clean = denoiser.apply(
        {"params": learned["params"]}, noisy, time, prior, speech, speaker=speaker_number
    )
    keep = lambda clean, time: predictions.append((int(time[0]), np.asarray(clean[0])))
    jax.debug.callback(keep, clean, time, ordered=True)
    return clean


shape = 1, denoiser.window, space.dim
sampling.sampler.sample(jax.random.key(0), denoise, shape, stage2.make_process(config))
jax.effects_barrier()

# %% [markdown]
# The curves are the values with the most motion. At first the network can only predict the mean;
# step by step it becomes more definite.

# %%
figure, plots = plt.subplots(
    1, len(predictions), figsize=(2.2 * len(predictions), 2.2), sharey=True
)
most = np.argsort(predictions[-1][1].std(0))[-6:]
for plot, (time, clean) in zip(np.atleast_1d(plots), predictions, strict=True):
    plot.plot(clean[:, most])
    plot.set_title(f"time {time}")
plt.show()

# %% [markdown]
# The same as pictures: a row for each prediction, with every tenth frame of the window.

# %%
rows = []
for _, clean in predictions:
    vectors = space.decode(jnp.asarray(clean), own, statistics)
    rows.append(animator.render(source, np.asarray(space.to_feature(vectors))[::10]))
mediapy.show_image(images.contact_sheet(rows))
