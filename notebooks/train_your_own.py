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
# # From a folder of videos to a model of your own
# This notebook trains both stages on videos of people who talk to a camera and agreed to this,
# named `SPEAKER#ID.mp4` or `SPEAKER/ID.mp4`, and makes a video. You can interrupt each step and run
# it again; it skips what is already done.

# %%
import os
import pathlib

import mediapy
from IPython.display import Video, display
from PIL import Image

import gesture_jax
from gesture_jax import presets
from gesture_jax.media import images
from gesture_jax.media.sound import read_audio
from gesture_jax.people import pose
from gesture_jax.preparation import dataset, videos
from gesture_jax.training import loop, metrics_writer

# %% [markdown]
# The preset `demo` (64x64) takes about 20 minutes of one CPU core's time; `paper` (256x256) takes
# days on a GPU or TPU.

# %% tags=["parameters"]
VIDEOS = "videos"
PRESET = os.environ.get("PRESET", "demo")
DATA, STAGE1, STAGE2 = "data/mine", "runs/stage1", "runs/stage2"

# %% [markdown]
# ## The dataset
# The videos become square clips at 25 frames a second, with 16 kHz speech. The report lists what
# was left out, with the reason.

# %%
config = presets.load(f"configs/stage1.py:{PRESET}")
has_pose = pose.is_installed()  # The extra [pose] finds people and their hands.
settings = videos.Settings(config.model.resolution, require_person=has_pose, joints=has_pose)
report = videos.write_videos(VIDEOS, DATA, settings=settings)
print(dataset.format_report(report or dataset.read_report(DATA)))

# %% [markdown]
# ## Stage 1: redraw a person in another pose
# The pictures show source, driving frame and reconstruction. They become sharper with more
# training.

# %%
config.data.path = DATA
loop.train(config, STAGE1)


# %%
def show_newest_sample(workdir):
    newest = max(pathlib.Path(workdir, "samples").iterdir(), key=os.path.getmtime)
    mediapy.show_image(Image.open(newest), title=newest.name)


def show_losses(workdir):
    rows = [row for row in metrics_writer.read_metrics(workdir) if "loss" in row]
    print({row["step"]: round(row["loss"], 3) for row in rows[:: max(1, len(rows) // 8)]})


show_newest_sample(STAGE1)
show_losses(STAGE1)

# %% [markdown]
# ## Stage 2: generate such poses from speech
# First the motion features of all frames are extracted. The picture shows the real and the
# generated motion of a test clip.

# %%
config = presets.load(f"configs/stage2.py:{PRESET}")
config.stage1_workdir = STAGE1
config.data.extract_missing = True
loop.train(config, STAGE2)
show_newest_sample(STAGE2)
show_losses(STAGE2)

# %% [markdown]
# ## A video
# The dataset contains a portrait and a sound from its test split to try the model on.

# %%
generator = gesture_jax.GestureGenerator.load(stage1=STAGE1, stage2=STAGE2)
portrait = images.load_image(f"{DATA}/example.png")
speech = read_audio(f"{DATA}/example.wav")
generator.generate(portrait, speech, sample_rate=16_000, seed=0).write("mine.mp4")
display(Video("mine.mp4", embed=True))

# %% [markdown]
# If the video does not look right, open `data/mine/contact_sheet.html`: is everybody framed alike,
# and are both hands in the picture? `docs/stage1.md` and `docs/stage2.md` list the values to expect
# at each step.
