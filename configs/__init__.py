"""The config of each stage, with its presets: `train --config=configs/stage1.py:demo`."""
