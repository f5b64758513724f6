# `make demo` and `make test` work on a fresh machine: each sets up the virtual environment first.
PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
# Tests and the demo run several processes on the same cores, so tokenizers use one thread.
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE ?= 1

.PHONY: setup demo demo-full tiny tiny-sam2 test test-fast quality docs test-oldest test-browser test-ray test-label-studio test-docs test-install notebooks test-notebooks benchmarks gpu-report clean

# One command installs torch, torchvision and the package: both must come from one index, and pip must resolve all
# bounds at once.
$(VENV)/.done: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch torchvision --editable ".[test]"
	touch $@

setup: $(VENV)/.done

# Trains concepts of three new shapes for a tiny SAM 3 and prints AP before and after, for new and old shapes;
# `demo-full` trains all weights on the same data. A second call starts over.
DEMO := $(VENV)/bin/accelerate launch --quiet --config_file accelerate_configs/cpu.yaml recipes/sam3_ft.py --start_over true
demo: setup
	$(DEMO) --config recipes/configs/demo.yaml
demo-full: setup
	$(DEMO) --config recipes/configs/demo_full.yaml

# Trains the weights of sam-ft/tiny, in two halves of two hours each on two cores; the same call resumes a killed one.
PRETRAIN := OMP_NUM_THREADS=1 $(VENV)/bin/torchrun --standalone --nproc_per_node 2 recipes/sam3_ft.py --per_device_train_batch_size 4 --use_cpu true
tiny: setup
	$(PRETRAIN) --config recipes/configs/tiny_pretrain.yaml
	$(PRETRAIN) --config recipes/configs/tiny_pretrain_more.yaml

# Trains the weights of sam-ft/tiny-sam2, in two halves, 40 minutes on one core, into out/tiny-sam2.
tiny-sam2: setup
	$(VENV)/bin/python recipes/sam2_ft.py --config recipes/configs/sam2_tiny_pretrain.yaml --use_cpu true
	$(VENV)/bin/python recipes/sam2_ft.py --config recipes/configs/sam2_tiny_pretrain_more.yaml --use_cpu true

# Two processes of one thread each; the tests of a file run in one process, because they share its fixtures.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q --numprocesses 2 --dist loadfile
test: setup
	$(PYTEST)

# Unit tests, without training and other slow ones.
test-fast: setup
	$(PYTEST) -m "not slow and not browser and not ray and not label_studio and not docs and not install and not notebooks" tests/utils tests/ops tests/losses tests/metrics tests/optim tests/arguments tests/reporting tests/data tests/test_layering.py

# Lint, format and types.
quality: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The documentation as a site, in build/site; a warning is an error.
docs: setup
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

# The oldest supported releases.
$(OLDEST)/.done: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.11.*" torchvision "transformers==5.17.*" --editable ".[test]"
	touch $@

test-oldest: $(OLDEST)/.done
	$(OLDEST)/bin/python -m pytest -q

# The demo page in a real browser; CHROMIUM is the path of an installed one.
test-browser: setup
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[demo]" playwright
	test -n "$(CHROMIUM)" || $(VENV)/bin/python -m playwright install chromium
	$(VENV)/bin/python -m pytest -q -m browser

# Commands and code of README and docs/ with the packaged models, page by page.
test-docs: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -m docs

# Predictions in the actors of local Ray clusters.
test-ray: setup
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[ray]"
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -m ray

# The labelling loop with a Label Studio server in an environment of its own, about five minutes.
LABEL_STUDIO_VENV := .venv-label-studio
$(LABEL_STUDIO_VENV)/.done:
	$(PYTHON) -m venv $(LABEL_STUDIO_VENV)
	$(LABEL_STUDIO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check label-studio==1.23.2
	touch $@

test-label-studio: setup $(LABEL_STUDIO_VENV)/.done
	LABEL_STUDIO=$(LABEL_STUDIO_VENV)/bin/label-studio OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -s -m label_studio

# The commands of the wheel, in an environment of its own (6 GB) and an empty folder.
INSTALL_VENV := .venv-install
test-install: setup
	rm -rf build/dist
	$(VENV)/bin/python -m build --outdir build/dist .
	test -d $(INSTALL_VENV) || $(PYTHON) -m venv $(INSTALL_VENV)
	$(INSTALL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check build/dist/*.whl
	$(INSTALL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps build/dist/*.whl
	INSTALLED=$(INSTALL_VENV)/bin $(VENV)/bin/python -m pytest -q -m install

# Executes the notebooks in place, with their outputs; or copies of them in a test.
$(VENV)/.notebooks: $(VENV)/.done
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[notebooks]"
	touch $@

notebooks: $(VENV)/.notebooks
	$(VENV)/bin/python notebooks/execute.py

test-notebooks: $(VENV)/.notebooks
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q --numprocesses 2 -m notebooks

benchmarks: setup
	for script in criterion memory step data ladder cached eval sam2 conversion many_images prediction_cost; do $(VENV)/bin/python benchmarks/$$script.py || exit 1; done

# Correctness, memory and speed of the full-size model on this machine's GPU, about ten minutes; `CARD=fake` runs the
# code of each cell with tiny models on a CPU.
CARD ?= gpu
gpu-report: setup
	$(VENV)/bin/python benchmarks/gpu_report.py --card $(CARD) --out out/$(CARD)_report.jsonl

clean:
	rm -rf build *.egg-info
