# `make` alone lists what there is. Everything installs what it needs by itself; only Python
# (3.11 or newer), git and make have to be there.

SCENARIO ?= main
CLUSTER ?= local
# Workers, each with servers of its own: one takes the stories with a whole operator, the other the
# rest (tests/conftest.py). With three, what is timed failed for want of a core.
WORKERS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
NO_SERVERS := not (postgres or redis or prometheus or node or pgbouncer or cluster)
LOCKS := runtime dev go postgres redis redis62 valkey node

# Two source roots that are never installed, so that what runs is what is checked out.
export PYTHONPATH := operator:deploy
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-thorough test-unit test-image test-python image tools keda test-keda lint types crd crd-check bench lock clean

help: ## list the targets (default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  make demo SCENARIO=main        a storm: steps up, meets the budget, pauses, drains, resumes'
	@echo '  make demo SCENARIO=pressure    another client takes 60 % of the connections: the step is reverted'
	@echo '  make demo SCENARIO=unreadable  PostgreSQL stops answering: nothing is scaled up or resumed'
	@echo '  make demo SCENARIO=bullmq      the main story on BullMQ: Node.js workers, Redis, Prometheus, a backfill'
	@echo '  make demo CLUSTER=existing     in the cluster of $$KUBECONFIG    CLUSTER=kind: in a new kind cluster'

demo: $(INSTALLED) ## the main job on real parts, live, about three minutes (SCENARIO=, CLUSTER=)
	@$(PY) -m demo --scenario $(SCENARIO) --cluster $(CLUSTER)

# The programs are built before pytest starts: inside a test they would run into its time limit.
test: tools ## every test, on real servers and workers (about 28 minutes on two cores; WORKERS=0, one after the other: 36)
	@$(PY) -m pytest -n $(WORKERS) --no-loadscope-reorder

# Their short forms are part of `make test`.
KILLS_AND_RACES := $(addprefix tests/e2e/test_,kills.py guard_kills.py rights_producers.py) \
  $(wildcard tests/producers/test_*_races.py)
test-thorough: tools ## the long form of kills and races: more kills, more rounds (about 15 minutes; FILES= for others)
	@STARFORGE_TESTS=thorough $(PY) -m pytest $(or $(FILES),$(KILLS_AND_RACES))

test-unit: $(INSTALLED) ## the tests that need nothing but Python, in seconds
	@$(PY) -m pytest tests/unit -m "$(NO_SERVERS)"

# Without BASE and BUILDER: docker or buildah with the Dockerfile's own base where one of them is
# here; as root on Debian else, buildah from a package and a base by debootstrap (no registry).
image: $(INSTALLED) ## build the operator's image into .cache/image.tar (IMAGE=, BASE=, BUILDER=docker|buildah|own)
	@$(PY) -m local.image $(if $(IMAGE),--name $(IMAGE)) $(if $(BASE),--base $(BASE)) $(if $(BUILDER),--builder $(BUILDER))

# As root on Debian. Downloads and builds before pytest starts: its time limits are not for that.
test-image: tools ## the image as a pod of a real kubelet and containerd, by the chart (about 2 minutes)
	@$(PY) -m local.kubelet
	@$(PY) -m local.image
	@$(PY) -m pytest tests/image

# What touches TLS, asyncio and the process; as root on Debian.
PYTHON_TESTS := tests/prometheus/test_login.py tests/redis/test_faults.py \
  $(addprefix tests/unit/test_,cluster_client.py cluster_errors.py process_environment.py report_health.py)
test-python: tools ## some tests on the image's Python 3.13 (ARGS= for others); root, Debian
	@$(PY) -m local.debian.python $(or $(ARGS),-q $(PYTHON_TESTS))

tools: $(INSTALLED) ## build and install the programs that tests and demo start, once per user
	@$(PY) -m local.build

keda: $(INSTALLED) ## build KEDA for `make test-keda`, once per user (15 to 40 minutes)
	@$(PY) -m local.build keda

test-keda: tools keda ## guardrail mode beside a real KEDA (about 5 minutes; STORIES=short: 2)
	@STORIES=$(STORIES) $(PY) -m local.netns $(PY) -m pytest tests/keda/guard_stories.py

lint: $(INSTALLED) ## ruff, its formatting, and the layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports

types: $(INSTALLED) ## mypy --strict
	@$(VENV)/bin/mypy operator deploy tests

crd: $(INSTALLED) ## write crds/ and docs/reference/ from the models and the catalogue of reasons
	@$(PY) -m reference.crd
	@$(PY) -m reference.status

crd-check: $(INSTALLED) ## fail if these are out of date, or a reason or Event has no entry
	@$(PY) -m reference.crd --check
	@$(PY) -m reference.status --check

bench: tools ## the numbers of docs/benchmarks.md (about 60 minutes)
	@$(PY) -m tests.bench

# No index and no find-links are recorded: the files must work with anybody's package index.
lock: .cache/lock/bin/uv ## resolve requirements/*.in into *.txt with hashes
	@cd requirements && for name in $(LOCKS); do \
	  ../.cache/lock/bin/uv pip compile --quiet --universal --generate-hashes \
	    --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	    $$name.in -o $$name.txt || exit 1; \
	  echo "locked requirements/$$name.txt"; \
	done

clean: ## remove the virtual environment, runs and caches (not the programs built per user)
	@rm -rf $(VENV) .run .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find operator deploy tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is newer than the lock file exactly when the environment is what the lock file says.
$(INSTALLED): requirements/dev.txt
	@$(FIND_PYTHON); \
	if ! [ -x $(PY) ] || ! $(PY) -c '$(NEW_ENOUGH)' 2>/dev/null; then \
	  echo "making $(VENV) with $$($$python --version) (once)"; \
	  "$$python" -m venv --clear $(VENV) || { echo "$$python -m venv failed. $(NO_VENV)" >&2; exit 1; }; \
	fi; \
	echo "installing requirements/dev.txt"; \
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt && touch $@

.cache/lock/bin/uv:
	@$(FIND_PYTHON); "$$python" -m venv --clear .cache/lock && .cache/lock/bin/python -m pip install --quiet 'uv>=0.9'

NEW_ENOUGH := import sys, pip; sys.exit(sys.version_info < (3, 11))
NO_VENV := On Debian and Ubuntu it is a package of its own: apt-get install python3-venv (for another Python: python3.12-venv).
# Debian ships `venv` without `ensurepip`: the environment would come out without pip.
define FIND_PYTHON
python=; lacking=; \
for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
  "$$candidate" -c 'import ensurepip, venv' 2>/dev/null || { lacking="$$lacking $$candidate"; continue; }; \
  python=$$candidate; break; \
done; \
if [ -z "$$python" ] && [ -n "$$lacking" ]; then \
  echo "Cannot make virtual environments with any of$$lacking (no ensurepip). $(NO_VENV)" >&2; exit 1; \
elif [ -z "$$python" ]; then \
  echo "No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; \
fi
endef
