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
# What the parts of `docs/method.md` look like: the deviation field, the warp, the gate, and noise
# that becomes gestures. Of a model that you trained, or of the one that comes with the package.

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
# Yours; without any, those of the package.
STAGE1, STAGE2 = os.environ.get("STAGE1"), os.environ.get("STAGE2")

# %%
if not STAGE1:
    from gesture_jax.inference import bundled

    STAGE1, STAGE2 = bundled.find().values()
animator = Animator.load(STAGE1)
model, size = animator.model, animator.resolution
variables, _ = checkpoints.load_variables(STAGE1, abstract_variables(model))


def ask(method, *arguments, **options):
    return model.apply(variables, *arguments, method=method, **options)


# %% [markdown]
# ## Source, driving frame, and what is made of both
# The driving frame goes through a narrow hole: its motion feature, a rotation a cell.

# %%
done = speaker.perform(identity=2, seed=7, duration_sec=3.2, size=size)
joints = done.joints[:, speaker.JOINT_NAMES.index("right_wrist")]
moved = int(np.argmax(np.abs(joints - joints[0]).sum(-1)))  # When a hand is furthest off.
source = animator.encode_source(done.frames[0])
motion = animator.extract_motion(done.frames[[0, moved]])
redrawn = animator.render(source, motion)[1]
print(f"{motion.shape[1]} numbers: {model.motion_grid} x {model.motion_grid} rotations, and 3 more")
mediapy.show_images(
    {"source": done.frames[0], "driving": done.frames[moved], "redrawn": redrawn}, height=256
)

# %% [markdown]
# ## The deviation field
# A matrix for each cell of the latent volume, made of that feature. Here is how far each is from
# no deviation at all; and where the warp is a plain displacement (`warp_kind="flow"`), where it
# points: at each place, from where in the source it is drawn.

# %%
field = np.asarray(ask("field", jnp.asarray(motion[1:]), source.features.motion))[0]
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
# The source's latent volume before and after. Its many channels are shown by the three directions
# in which they differ most, as red, green and blue.

# %%
before = np.asarray(source.features.volume)[0]
after = np.asarray(ask("warp", source.features, jnp.asarray(motion[1:])))[0]
flat = before.reshape(-1, before.shape[-1])
mean, (*_, axes) = flat.mean(0), np.linalg.svd(flat - flat.mean(0), full_matrices=False)
seen = [(volume - mean) @ axes[:3].T for volume in (before, after)]
low, high = np.percentile(seen[0], [1, 99], axis=(0, 1))
before, after = (np.clip((picture - low) / (high - low), 0, 1) for picture in seen)
mediapy.show_images({"volume of the source": before, "warped": after}, height=256)

# %% [markdown]
# ## The gate
# The decoder draws each pixel from what it has made (white) or from the source's own still detail
# (black), as it has learned: what moves must not be copied, what stands still need not be made.

# %%
_, kept = ask("render", source.features, jnp.asarray(motion[1:]), mutable=["intermediates"])
masks = [np.asarray(mask)[0].mean(-1) for mask in jax.tree.leaves(kept)]
difference = np.abs(done.frames[moved] / 255.0 - done.frames[0] / 255.0).mean(-1)
shown = {f"gate {number}": mask for number, mask in enumerate(masks)}
mediapy.show_images({"what moved": difference, **shown}, height=256, cmap="gray")

# %% [markdown]
# ## Noise that becomes gestures
# Stage 2 draws a window of motion. The sampler asks the network at falling times what the clean
# motion is; here is each answer, for the speech above.

# %%
config, learned = load_stage2(STAGE2, animator)
space, denoiser = stage2.build(config)
sampling, statistics = stage2.make_sampling(config), learned["statistics"]
heard = speech_features(done.audio)[: denoiser.window]
speech = standardise_speech(jnp.asarray(heard), statistics)[None]
own = space.from_feature(jnp.asarray(motion[0]))
held = jnp.repeat(own[None], denoiser.num_prior, axis=0)  # Still, at the portrait's own pose.
prior = space.encode_prior(held, own, statistics)[None]
speaker_number = jnp.zeros(1, int) if config.speakers else None

answers = []


def denoise(noisy, time):
    clean = denoiser.apply(
        {"params": learned["params"]}, noisy, time, prior, speech, speaker=speaker_number
    )
    keep = lambda answer, time: answers.append((int(time[0]), np.asarray(answer[0])))
    jax.debug.callback(keep, clean, time, ordered=True)
    return clean


shape = 1, denoiser.window, space.dim
sampling.sampler.sample(jax.random.key(0), denoise, shape, stage2.make_process(config))
jax.effects_barrier()

# %% [markdown]
# The curves are the values that move most. At first the network knows no more than what is usual;
# by and by it decides.

# %%
figure, plots = plt.subplots(1, len(answers), figsize=(2.2 * len(answers), 2.2), sharey=True)
most = np.argsort(answers[-1][1].std(0))[-6:]
for plot, (time, answer) in zip(np.atleast_1d(plots), answers, strict=True):
    plot.plot(answer[:, most])
    plot.set_title(f"time {time}")
plt.show()

# %% [markdown]
# And drawn: a row for each answer, every tenth frame of the window.

# %%
rows = []
for _, answer in answers:
    vectors = space.decode(jnp.asarray(answer), own, statistics)
    rows.append(animator.render(source, np.asarray(space.to_feature(vectors))[::10]))
mediapy.show_image(images.contact_sheet(rows))
