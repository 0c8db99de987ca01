# Two commands on a fresh machine: `make demo` and `make test`. Both set themselves up and can be run again.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/installed
DEMO := runs/demo
JOBS ?= 2
WEIGHTS := runs/weights

# Each file of tests is run by one process, as its tests share what they have trained or compiled.
PYTEST := $(RUN) -m pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder

.PHONY: demo weights test test-all lint docs notebooks clean

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

weights-demo: $(STAMP)
	$(RUN) -m gesture_jax.prepare --procedural=240 --clip_sec=9.8 --test_fraction=0.2 --size=64 \
	  --out=$(WEIGHTS)/demo/data
	$(RUN) -m gesture_jax.train --config=configs/stage1.py:demo --config.data.path=$(WEIGHTS)/demo/data \
	  --workdir=$(WEIGHTS)/demo/stage1
	$(RUN) -m gesture_jax.train --config=configs/stage2.py:demo --config.num_steps=4000 \
	  --config.stage1_workdir=$(WEIGHTS)/demo/stage1 --workdir=$(WEIGHTS)/demo/stage2
	for stage in stage1 stage2; do \
	  $(RUN) -m gesture_jax.pack --half --workdir=$(WEIGHTS)/demo/$$stage \
	    --out=gesture_jax/weights/demo_$$stage.safetensors || exit; \
	done

weights-photo: $(STAMP)  ## PORTRAITS=DIR of half-body photographs; on a GPU
	launch/one_gpu.sh --portraits=$(PORTRAITS) --out=$(WEIGHTS)/photo --python=$(RUN)
	cp $(WEIGHTS)/photo/photo_stage?.safetensors gesture_jax/weights/

test: $(STAMP)  ## without slow tests, and with a fifth of the examples of damaged files
	GESTURE_JAX_TEST_FUZZ=0.2 $(PYTEST) -m "not slow"

test-all: $(STAMP)  ## all tests, as CI runs them
	$(PYTEST)

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
