# Two commands on a fresh machine: `make demo` and `make test`. Both set themselves up and can be run again.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/installed

.PHONY: demo test lint clean

demo: $(STAMP)  ## the main job on the built-in speaker: dataset, both stages, a video with sound
	$(RUN) -m gesture_jax.demo --out=runs/demo

test: $(STAMP)  ## all tests
	$(RUN) -m pytest

lint: $(STAMP)
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

$(STAMP): pyproject.toml requirements.txt
	$(PYTHON) -c "import sys; sys.exit('gesture_jax needs Python 3.11 or newer; set PYTHON=') if sys.version_info < (3, 11) else 0"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements.txt
	$(RUN) -m pip install -q -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) runs
