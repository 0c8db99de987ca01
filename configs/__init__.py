"""The config of each stage, and its presets; `train --config=configs/stage1.py:demo` names them."""
