# Two commands on a fresh machine: `make demo` and `make test`. Both set themselves up and can be run again.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/installed
DEMO := runs/demo
JOBS ?= 2

WEIGHTS := runs/weights

.PHONY: demo weights test lint docs notebooks clean

demo: $(STAMP)  ## the main job on the built-in speaker: dataset, both stages, a video with sound
	$(RUN) -m gesture_jax.train --config=configs/stage1.py:demo --workdir=$(DEMO)/stage1
	$(RUN) -m gesture_jax.train --config=configs/stage2.py:demo --workdir=$(DEMO)/stage2 \
	  --config.stage1_workdir=$(DEMO)/stage1
	$(RUN) -m gesture_jax.generate --stage1=$(DEMO)/stage1 --stage2=$(DEMO)/stage2 \
	  --image=$(DEMO)/stage1/dataset/example.png --audio=$(DEMO)/stage1/dataset/example.wav \
	  --out=$(DEMO)/video.mp4 --sheet=$(DEMO)/sheet.png
	@echo "Look at $(DEMO)/video.mp4 (with sound), $(DEMO)/sheet.png, and at how training went:"
	@echo "pictures in $(DEMO)/stage1/samples and $(DEMO)/stage2/samples, numbers in metrics.jsonl."

weights: weights-demo weights-photo  ## those in gesture_jax/weights, from nothing and seed 0

weights-demo: DATA := --procedural=240 --clip_sec=9.8 --test_fraction=0.2 --size=64
weights-demo: STEPS := 4000
# PORTRAITS=DIR of half-body photographs; --rigs keeps what is found in them.
weights-photo: DATA := --portraits=$(PORTRAITS) --rigs=$(WEIGHTS)/rigs --clips=12 --clip_sec=6.6 --size=256
weights-photo: STEPS := 2000
weights-%: $(STAMP)
	$(RUN) -m gesture_jax.prepare $(DATA) --out=$(WEIGHTS)/$*/data
	$(RUN) -m gesture_jax.train --config=configs/stage1.py:$* --config.data.path=$(WEIGHTS)/$*/data \
	  --workdir=$(WEIGHTS)/$*/stage1
	$(RUN) -m gesture_jax.train --config=configs/stage2.py:$* --config.num_steps=$(STEPS) \
	  --config.stage1_workdir=$(WEIGHTS)/$*/stage1 --workdir=$(WEIGHTS)/$*/stage2
	for stage in stage1 stage2; do \
	  $(RUN) -m gesture_jax.pack --half --workdir=$(WEIGHTS)/$*/$$stage \
	    --out=gesture_jax/weights/$*_$$stage.safetensors || exit; \
	done

test: $(STAMP)  ## all tests, files of them side by side
	$(RUN) -m pytest --numprocesses=$(JOBS) --dist=loadfile

lint: $(STAMP)
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

docs: $(STAMP)  ## build/docs/index.html; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

notebooks: $(STAMP)  ## .ipynb of their sources, the .py beside them
	$(RUN) -m jupytext --quiet --to ipynb notebooks/*.py

$(STAMP): pyproject.toml requirements.txt
	$(PYTHON) -c "import sys; sys.exit('gesture_jax needs Python 3.11 or newer; set PYTHON=') if sys.version_info < (3, 11) else 0"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements.txt
	$(RUN) -m pip install -q -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) runs
