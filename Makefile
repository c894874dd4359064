# Each target first makes $(VENV) match requirements.txt; the stamp file in it carries its hash.
PYTHON ?= python3
VENV ?= .venv
NAME ?=
PRESET ?=
STAMP := $(VENV)/.installed-$(shell cat requirements.txt pyproject.toml | git hash-object --stdin)
PYTEST_ARGS ?=
ARGS ?=

export PATH := $(abspath $(VENV))/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help clone venv repro plan test coverage lint deps docs mlflow publish preset try restore experiments study compare campaign requirements audit asset

help:
	@echo "make repro                rebuild every result that is out of date; ends at reports/html/index.html (JOBS=1: no two stages at once)"
	@echo "make plan                 what that will fetch, need and take, by stage (PRESET=nsd: after that preset)"
	@echo "make test                 all tests, the end-to-end one included"
	@echo "make coverage             the fast tests, with the lines of src that they do not reach"
	@echo "make lint                 ruff, mypy, and whether dvc.yaml and the pages match code and results"
	@echo "make deps                 write the code deps of dvc.yaml from what the stages import"
	@echo "make docs                 write the numbers of README.md and docs/ from reports/"
	@echo "make mlflow               add missing runs to the MLflow store and open their table (PORT=5001: there)"
	@echo "make publish NAME=ridge   a folder publish/ridge for the Hugging Face hub, and what to check about it; no upload"
	@echo "make preset NAME=smoke    patch params.yaml with presets/smoke.yaml (NAME=default: as committed; what is not is kept in .params.yaml.before_preset.N)"
	@echo "make try NAME=smoke       run under that preset beside this tree, as a DVC experiment; nothing here changes"
	@echo "make restore              back to the committed parameters and results, in seconds; what differs is put in git's stash"
	@echo "make experiments          DVC's experiments: their changed parameters and the summaries of runs"
	@echo "make study NAME=...       queue, run and collect the variants of studies/NAME.yaml"
	@echo "make compare              whether a run on another machine gave what git has: one line in place of git diff"
	@echo "make campaign             kills, full disks, hostile input and the like, to benchmarks/campaign.json (hours; goes on where it was)"
	@echo "make requirements         the newest versions that pyproject.toml allows, to requirements.txt and requirements.lock"
	@echo "make audit                known vulnerabilities of these"
	@echo "make asset NAME=clip      rebuild assets/mini/NAME, which git holds ready-made"

# First of all, as DVC would say it only after the whole install.
clone:
	@test -e .git || { echo "this folder is no git clone, which DVC needs; get it by git clone, or here: git init && git add --all && git commit -m start"; exit 2; }

venv: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is %d.%d; try make PYTHON=python3.12 ..." % v[:2])'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@rm -f $(VENV)/.installed-*
	@touch $@

repro: clone venv
	python -m pipeline.repro $(if $(JOBS),--jobs $(JOBS))
	@echo "Report: $(abspath reports/html/index.html)"

plan: venv
	python -m pipeline.plan $(PRESET)

test: venv
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

coverage: venv
	python -m pytest -n 2 -m "not slow" --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

lint: venv
	ruff check .
	ruff format --check .
	mypy
	python -m pipeline.deps --check
	python -m pipeline.docs --check

deps: venv
	python -m pipeline.deps

docs: venv
	python -m pipeline.docs

mlflow: venv
	python -m pipeline.sync_mlflow --show $(PORT)

publish: venv
	@test -n "$(NAME)" || { echo "name a run: make publish NAME=...; trained are: $(notdir $(wildcard models/*))"; exit 2; }
	@python -m pipeline.publish $(NAME)

preset: clone venv
	@test -n "$(NAME)" || { echo "name a preset: make preset NAME=smoke; there are: default $(basename $(notdir $(wildcard presets/*.yaml)))"; exit 2; }
	python -m pipeline.preset $(NAME)

try: clone venv
	@test -n "$(NAME)" || { echo "name a preset: make try NAME=smoke; there are: $(basename $(notdir $(wildcard presets/*.yaml)))"; exit 2; }
	python -m pipeline.trial $(NAME)

restore: clone venv
	python -m pipeline.restore

# Deps are columns of DVC's, and so are numbers that the summaries have.
experiments: clone venv
	dvc exp show --only-changed --num 1 --drop '^(Executor|State|rev|typ|parent|note|(src|pipeline|assets|data|models|presets|studies|benchmarks)(/|$$)|reports/(studies|data_checks)|CITATION|requirements)'

study: clone venv
	@test -n "$(NAME)" || { echo "name a study: make study NAME=...; there are: $(basename $(notdir $(wildcard studies/*.yaml)))"; exit 2; }
	python -m pipeline.study $(NAME)
	python -m pipeline.sync_mlflow

compare: venv
	python -m pipeline.compare

# ARGS=kills for one part: python benchmarks/campaign.py --help.
campaign: clone venv
	python benchmarks/campaign.py $(ARGS)

# --universal: for every platform; the lock has the hash of every file, requirements.txt what we ask for ourselves.
COMPILE := uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --quiet --no-annotate \
	--no-strip-extras --custom-compile-command "make requirements"
requirements: venv
	$(COMPILE) --upgrade --generate-hashes --output-file requirements.lock
	$(COMPILE) --no-deps --constraints requirements.lock --output-file requirements.txt

audit: venv
	pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

# An asset is frozen so that `dvc repro` never trains it; DVC runs nothing that is frozen, not even with --force.
asset: clone venv
	@test -f "assets/mini/$(NAME)/dvc.yaml" || { echo "name an asset: make asset NAME=...; there are: $(notdir $(patsubst %/dvc.yaml,%,$(wildcard assets/mini/*/dvc.yaml)))"; exit 2; }
	@cd assets/mini/$(NAME) && cp dvc.yaml .dvc.yaml.tmp && \
	trap 'mv -f .dvc.yaml.tmp dvc.yaml' EXIT && trap 'exit 130' INT TERM && \
	for stage in $$(dvc stage list --name-only dvc.yaml); do \
		dvc unfreeze --quiet $$stage && dvc repro --force --single-item $$stage || exit 1; \
	done
