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
# One picture and a recording in, a video out. On a CPU, a GPU or a TPU, with the same code.
#
# In Colab, install the package first: upload the wheel that `python -m build` makes, and run
# `%pip install gesture_jax-*.whl` in a cell of its own. On a GPU, add `"jax[cuda12]"`.

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
# Workdirs of your own trainings, or files that were made of them. Without any, the weights that
# come with the package: those for photographs where IMAGE is yours, those for drawn people where
# it is not.

# %% tags=["parameters"]
STAGE1, STAGE2 = os.environ.get("STAGE1"), os.environ.get("STAGE2")
IMAGE, AUDIO = os.environ.get("IMAGE"), os.environ.get("AUDIO")  # Yours; without, drawn ones.

# %%
if STAGE1:
    weights = {"stage1": STAGE1, "stage2": STAGE2}
else:
    from gesture_jax.inference import bundled

    weights = bundled.find("photo" if IMAGE else "demo")
generator = gesture_jax.GestureGenerator.load(**weights)

# %% [markdown]
# Whom, and what they say. The drawn people are nobody; ask real ones before you make them talk.

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
# Some of its frames, in the order of time.

# %%
mediapy.show_images(list(clip.frames[:: max(1, len(clip.frames) // 12)]), height=128, columns=6)

# %% [markdown]
# Another seed moves differently to the same words; `motion_scale` makes all moves smaller. What
# is kept in `clip.motion` can be rendered on any other portrait.

# %%
calm = generator.options(control={"motion_scale": 0.5, "rest_sec": 1.0})
clip = generator.generate(portrait, speech, sample_rate=16_000, seed=1, options=calm)
clip.write("calm.mp4")
display(Video("calm.mp4", embed=True))

# %% [markdown]
# Who watches it has to be told that it is synthetic; the file's metadata say so as well. Go on
# with `train_your_own.ipynb`, or look inside with `inside_the_model.ipynb`.
