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
# # The procedural speaker
# The procedural speaker is an endless, seeded source of people who talk with their hands. Demos and
# tests use it.

# %%
import mediapy
import numpy as np

from gesture_jax.media import images
from gesture_jax.procedural import speaker
from gesture_jax.speech.extractor import speech_features

# %% [markdown]
# A number (`identity`) determines the person, and another (`seed`) the speech. A performance
# contains frames, sound, joints and the times of the stressed syllables.

# %%
done = speaker.perform(identity=2, seed=7, duration_sec=4.0, size=192)
print(done.frames.shape, done.audio.shape, done.joints.shape, done.stress_times_sec)

# %%
people = [speaker.portrait(identity=number, size=192) for number in range(6)]
mediapy.show_image(images.contact_sheet([people, done.frames[10:100:15]]))

# %% [markdown]
# The diffusion model gets 35 speech features per frame. The first is the onset strength, which
# rises at the beginning of a stressed syllable.

# %%
features = speech_features(done.audio)
wrist = done.joints[:, speaker.JOINT_NAMES.index("right_wrist")]
speed = np.linalg.norm(np.diff(wrist, axis=0), axis=1)
for moment in done.stress_times_sec:
    frame = min(round(moment * 25), len(speed) - 1)
    print(f"stress at {moment:.2f} s: onset {features[frame, 0]:.2f}, hand {speed[frame]:.1f} px")
