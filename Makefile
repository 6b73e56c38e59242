# make repro   all stages: stems -> features -> models -> scores -> leaderboard -> release
# make test    format, lint, types, and the tests that start no processes of ours
# make test-system, test-slow, test-all: tests that start processes, tests that take minutes, all
# make android, flink, bench: the app, the feature job on Flink, speed against the peers
PYTHON ?= $(firstword $(foreach name,python3 python3.11,$(shell command -v $(name))) python3)
# `make GPU=1 repro` and `make GPU=1 setup`: TensorFlow for NVIDIA GPUs, in an environment of its own.
VENV := .venv$(if $(GPU),-gpu)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# uv compiles no bytecode: Python keeps what it compiles at the first import, which saves each
# process that loads TensorFlow ten seconds.
unexport PYTHONDONTWRITEBYTECODE
# dev contains repro: an environment for dev stays one.
NEED_DEV := $(filter test% check flink bench release-check setup-dev,$(MAKECMDGOALS))
GROUP := $(if $(GPU),gpu,$(if $(NEED_DEV)$(wildcard $(VENV)/.ready-dev),dev,repro))
ifneq (,$(and $(GPU),$(NEED_DEV)))
$(error GPU=1 is for repro and setup; tests and checks take the build for CPUs)
endif

ifneq (,$(filter bench,$(MAKECMDGOALS)))
ifeq (,$(CORPUS))
$(error bench: name a corpus: make bench CORPUS=FOLDER)
endif
endif

.PHONY: repro test test-system test-slow test-all check flink bench android release-check setup setup-dev lock

repro: setup
	@python -m stemforge.pipelines.params
	@dvc repro
	@stemforge release --output release --overwrite --allow-dirty
	@cat leaderboard/leaderboard.md
	@echo "Models, exports, model card, provenance: $(CURDIR)/release/"

# One process runs a whole file, so that each file makes its fixtures once.
test: setup-dev check
	python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-system: setup-dev
	python -m pytest -m "system and not slow"

# SHARE=N: one in N of them, chosen by the commit, and those that every share holds; a fuzz that
# is among them takes one minute of its ten.
test-slow: setup-dev
	python -m pytest -m slow $(if $(SHARE),--share=$(SHARE) --fuzz-s 60)

test-all: setup-dev check
	python -m pytest -m ""

# The feature job on a Flink cluster of this machine; CORPUS=folder of MUSDB tracks, else the
# stage's own. Needs java and mvn.
flink: setup-dev
	@$(if $(CORPUS),true,dvc repro --quiet decode)
	@python deploy/flink/run.py $(if $(CORPUS),--corpus "$(CORPUS)")

# The benchmarks of speed against the peers; CORPUS=folder of MUSDB stem files.
bench: setup-dev
	@python -m benchmarks.suite "$(CORPUS)"

# The app for Android. MODELS="NAME ...": names, folders of .tflite files, releases; TFLITE=int8_mixed
# for their smaller files. Needs a JDK, mvn and four of Debian's packages: it says which.
android: setup
	@python -c "from mobile.android import apk; from stemforge.pipelines.console import run_main; raise SystemExit(run_main(apk.check_tools))"
	@python -m mobile.android.assets $(MODELS) $(if $(TFLITE),--tflite $(TFLITE))
	@python -m mobile.android.apk

# Before a tag: the tree's checks, one version everywhere, and a release that verifies.
release-check: check
	@python -m pytest -m "" tests/test_house.py
	@dvc repro --quiet
	@test -z "$$(dvc status --quiet || echo changed)"
	@stemforge release --output release --overwrite
	@stemforge verify release

check: setup-dev
	ruff format --check .
	ruff check .
	mypy

# What `make repro` needs; what tests, checks and Google's cloud need too.
setup: $(VENV)/.ready-$(GROUP)
setup-dev: $(VENV)/.ready-dev

# A stamp says that a whole lock is installed. Without one, a set-up was killed: it starts again.
$(VENV)/.ready-%: locks/%.lock locks/setup.lock pyproject.toml
	@echo "Setting up $(VENV) (once) ..."
	@ls $(VENV)/.ready-* >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $(VENV)/.ready-*
	@python -m locks.install $*
	@touch $@

# After a change of pyproject.toml. Versions stay but for UPGRADE="NAME ...", or UPGRADE=all.
lock:
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@python -m locks.renew $(UPGRADE)
