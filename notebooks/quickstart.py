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
# # A portrait that talks with its hands
# This notebook turns one picture and a recording into a video, with the same code on a CPU, a GPU
# or a TPU.
#
# In Colab, install the package first: upload the wheel that `python -m build` makes, and run
# `%pip install gesture_jax-*.whl` in a separate cell. On a GPU, add `"jax[cuda12]"`.

# %%
import os

import jax
import mediapy
from IPython.display import Video, display

import gesture_jax
from gesture_jax.media import images
from gesture_jax.media.sound import read_audio
from gesture_jax.procedural import speaker

print(jax.devices())

# %% [markdown]
# Set STAGE1 and STAGE2 to workdirs of your own trainings, or to files packed from them. Otherwise
# the bundled weights are used: those for photographs if you set IMAGE, and those for drawn people
# if you do not.

# %% tags=["parameters"]
STAGE1, STAGE2 = os.environ.get("STAGE1"), os.environ.get("STAGE2")
# Without these, a drawn person speaks.
IMAGE, AUDIO = os.environ.get("IMAGE"), os.environ.get("AUDIO")

# %%
if STAGE1:
    weights = {"stage1": STAGE1, "stage2": STAGE2}
else:
    from gesture_jax.inference import bundled

    weights = bundled.find("photo" if IMAGE else "demo")
generator = gesture_jax.GestureGenerator.load(**weights)

# %% [markdown]
# Load the portrait and the speech. Drawn people do not exist; ask real people before you make them
# talk.

# %%
portrait = images.load_image(IMAGE) if IMAGE else speaker.portrait(identity=2, size=256)
if AUDIO:
    speech = read_audio(AUDIO)
else:
    speech = speaker.perform(identity=2, seed=11, duration_sec=8.0, size=16).audio
mediapy.show_image(images.square(images.to_rgb(portrait), size=256), title="portrait")

# %%
clip = generator.generate(portrait, speech, sample_rate=16_000, seed=0)
clip.write("talk.mp4")
display(Video("talk.mp4", embed=True))  # With its sound.

# %% [markdown]
# Some of its frames, in order of time:

# %%
mediapy.show_images(list(clip.frames[:: max(1, len(clip.frames) // 12)]), height=128, columns=6)

# %% [markdown]
# Another seed gives different motion for the same words, and `motion_scale` makes all motion
# smaller. You can render `clip.motion` on any other portrait.

# %%
calm = generator.options(control={"motion_scale": 0.5, "rest_sec": 1.0})
clip = generator.generate(portrait, speech, sample_rate=16_000, seed=1, options=calm)
clip.write("calm.mp4")
display(Video("calm.mp4", embed=True))

# %% [markdown]
# Tell everyone who watches the video that it is synthetic; the file's metadata say so as well.
# Next, read `train_your_own.ipynb` or `inside_the_model.ipynb`.
