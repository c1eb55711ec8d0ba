# `make` alone lists what there is. Everything runs in .venv, which `make env` builds from the pinned requirements with
# the newest Python found. `make test PYTHON=python3.13` names another; it gets an environment of its own.

ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for each in python3.13 python3.12 python3.11 python3; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$each" && break; done)
VENV := .venv
else
VENV := .venv-$(notdir $(PYTHON))
endif
BENCH_VENV := .venv-bench
NEWER_BENCH_VENV := .venv-bench-newer
UV := $(shell command -v uv 2>/dev/null)
STAMP := $(VENV)/.installed
BENCH_STAMP := $(BENCH_VENV)/.installed
USABLE := -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1

.DEFAULT_GOAL := help
.PHONY: help env up demo check check-format check-lint check-types check-imports test faults test-containers \
	test-compose test-fresh bench bench-quick format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## Build the environment from requirements-dev.txt (hashes checked); does nothing while that is unchanged

# Without the stamp, an earlier try was interrupted: its half is thrown away.
$(STAMP): requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; make PYTHON=... names one." >&2; exit 1; }
	@{ test -e $@ && $(VENV)/bin/python $(USABLE); } || rm -rf $(VENV)
	@rm -f $@
ifneq ($(UV),)
	@test -d $(VENV) || "$(UV)" venv --quiet --python "$(PYTHON)" $(VENV)
	"$(UV)" pip install --quiet --python $(VENV)/bin/python --require-hashes -r requirements-dev.txt
else
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 \
	|| { rm -rf $(VENV) && "$(PYTHON)" -m venv $(VENV); } \
	|| { echo "$(PYTHON) cannot make a virtual environment (Debian: install python3-venv)." >&2; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
endif
	@touch $@

up: env ## aftercommit dev in this checkout: everything in the foreground, on private PostgreSQL and RabbitMQ
	@$(VENV)/bin/python -m aftercommit dev --modules examples.handlers.shop

demo: env ## aftercommit dev --demo: a real load run to its end, and its account checked
	@$(VENV)/bin/python -m aftercommit dev --demo

check: env ## Format, lint, types, import rules
	@$(MAKE) --no-print-directory -j4 check-format check-lint check-types check-imports VENV="$(VENV)"

check-format:
	$(VENV)/bin/ruff format --check .
check-lint:
	$(VENV)/bin/ruff check .
check-types:
	$(VENV)/bin/mypy
check-imports:
	$(VENV)/bin/lint-imports

# Two processes of tests, each with servers of its own. A file stays in one process. The longest file, the first one
# collected, starts first. TESTS=... names some, or other options.
test: check ## check, then every test, in two processes (make test PYTHON=python3.13 for another Python)
	$(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

test-containers: env ## The integration tests on PostgreSQL and RabbitMQ in containers; needs a Docker engine
	$(VENV)/bin/pytest -n 2 --dist loadfile --servers=containers tests/integration

test-compose: env ## Build the image and try the whole Docker Compose stack out; needs a Docker engine
	$(VENV)/bin/pytest tests/compose

test-fresh: ## make demo and make test in a bare container, also after interruptions; needs a Docker engine (FRESH_IMAGE=...)
	tests/fresh/run.sh

faults: env ## Every fault scenario with three seeds on 20,000 tasks; takes hours (FAULTS="--tasks 2000 --scenario storm")
	$(VENV)/bin/python -m tests.faults --seed 1 --seed 2 --seed 3 $(FAULTS)

# The peers run on our Python. Where that is older than 3.12, which some of them need, those get a newer one, if there
# is one.
$(BENCH_STAMP): requirements-bench.txt | $(STAMP)
	rm -rf $(BENCH_VENV) $(NEWER_BENCH_VENV)
	$(call install_peers,$(VENV)/bin/python,$(BENCH_VENV))
	@$(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' || test -z "$(NEWER_PYTHON)" \
	|| { $(call install_peers,$(NEWER_PYTHON),$(NEWER_BENCH_VENV)); }
	@touch $@

NEWER_PYTHON = $(shell for each in python3.13 python3.12 $(HOME)/.pyenv/versions/3.1[23]*/bin/python; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && echo "$$each" && break; done)
ifneq ($(UV),)
install_peers = "$(UV)" venv --quiet --python $(1) $(2) \
	&& "$(UV)" pip install --quiet --python $(2)/bin/python --require-hashes -r requirements-bench.txt
else
install_peers = $(1) -m venv $(2) \
	&& $(2)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.txt
endif

bench: env $(BENCH_STAMP) ## Benchmarks beside the peers, five times over, into documents/; takes two hours
	@status=0; $(VENV)/bin/python -m bench --repeats 5 --json documents/benchmarks.json $(BENCH) || status=$$?; \
	$(BENCH_VENV)/bin/python -m bench.report documents/benchmarks.json && exit $$status

bench-quick: env $(BENCH_STAMP) ## The same with small sizes, once, in minutes (BENCH="--scenario drain --no-peers")
	$(VENV)/bin/python -m bench --quick --json .bench-quick.json $(BENCH)

format: env ## Format, and mend what the linter can mend
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## Stop what `make up` left running and remove its data (.venv stays)
	@"$(PYTHON)" -m aftercommit.devstack clean
