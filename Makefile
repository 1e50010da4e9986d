# All targets work on a clean clone; they need Python 3.11 to 3.14, make and a package index.

ROWS ?= 60
KILLS ?= 500
FAULTS ?= 500
TRIAL_KILLS ?= 100
STEPS ?= 20
EPOCHS ?= 4
HELD_OUT ?= 100
FUZZ_SECONDS ?= 100
PLAIN := not stores and not stack and not models and not torch and not faults and not dags
WORKERS ?= auto
PARALLEL := -n $(WORKERS) --dist worksteal
DURATIONS := --durations 25
# The files with tests of a mark: collecting all others takes each worker ten seconds.
marked = $(shell grep -rl --include 'test_*.py' 'mark\.$(1)\b' tests)
# What can differ between Airflow versions. The layers below (api, jobs, rows, local) do not import Airflow.
VERSIONED := tests/bad_input/test_connections.py tests/bad_input/test_path_objects.py tests/bad_input/test_outlets.py \
	tests/bad_input/test_mapped.py tests/faults/test_crashes.py tests/hooks \
	tests/operators tests/plugins tests/sensors tests/test_example_dags.py tests/test_links.py tests/test_provider_info.py tests/triggers
# What uses libraries: requests, rows, and of the local platform the server, documents, model files and tokens.
LIBRARIES := tests/api tests/corpus tests/jobs tests/rows tests/runs tests/local/engines/test_embeddings.py tests/local/models tests/local/rag \
	tests/local/test_datasets.py tests/local/test_memory_rag.py tests/local/test_text.py tests/local/tuning/test_tokens.py
BENCHES ?= waiting waiting_latency waiting_cost rows imports local_overhead

.DEFAULT_GOAL := help
.PHONY: help demo demo-tuning demo-emissary check test test-stack test-stores test-stores-2.11 test-models test-2.11 test-3.4 test-lowest test-tuning test-client test-dags test-faults faults faults-peers faults-stores production-trial fuzz bench bench-peers audit docs wheel wheel-versions clean
.NOTPARALLEL:

export PYTHON  # use this interpreter instead of the one that .ci/python finds
unexport PYTHONDONTWRITEBYTECODE  # the tests start thousands of processes, and each would compile what it imports

READY := .venv/.ready-local
READY_DEV := .venv/.ready-dev
READY_2_11 := .venv-2.11/.ready-dev
READY_3_4 := .venv-3.4/.ready-dev
READY_LOWEST := .venv-lowest/.ready-dev
READY_TRAIN := .venv-train/.ready-train
READY_CLIENT := .venv-client/.ready
READY_PEERS := .venv-peers/.ready-peers
READY_STORES := .venv-stores/.ready-stores
READY_PRODUCTION := .venv-production/.ready-production
SET_UP := pyproject.toml .ci/venv .ci/uv .ci/python

help:  ## list the targets
	@sed -n 's/^\([a-z0-9.-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(READY)  ## run the nightly batch inference Dag against the local platform (ROWS=60)
	@.venv/bin/python -m dags_examples.demo.run --rows $(ROWS)

demo-tuning: $(READY_TRAIN)  ## tune the local model on 50 tickets and run the fine-tuning Dag on it (STEPS=20)
	@.venv-train/bin/python -m dags_examples.demo.tuning --steps $(STEPS) --held-out $(HELD_OUT)

demo-emissary: $(READY_TRAIN)  ## train on 50 tickets through the Emissary API, deploy the best checkpoint, use it (EPOCHS=4)
	@.venv-train/bin/python -m dags_examples.demo.emissary --epochs $(EPOCHS) --held-out $(HELD_OUT)

check: $(READY_DEV)  ## inner loop, under a minute: lint, format, types, and the quick tests
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -q -m "not long and $(PLAIN)" $(PARALLEL) \
		--ignore tests/bad_input --ignore tests/local --ignore tests/operators --ignore tests/sensors --ignore tests/triggers

test: $(READY_DEV)  ## run all tests that need no running Airflow, no models, no torch, no kills and no whole Dags
	@.venv/bin/python -m pytest -m "$(PLAIN)" $(PARALLEL) $(DURATIONS)

test-dags: $(READY_DEV)  ## run whole Dags against the platforms: the examples, and others
	@.venv/bin/python -m pytest -m dags $(PARALLEL) $(DURATIONS) $(call marked,dags)

test-faults: $(READY_DEV)  ## kill tasks at the steps that matter most, and give every answer that a platform should not give
	@.venv/bin/python -m pytest -m faults $(PARALLEL) $(DURATIONS) $(call marked,faults) tests/faults

test-stack: $(READY_DEV)  ## run the tests against Airflow's real components and a real PostgreSQL
	@.venv/bin/python -m pytest -m stack $(call marked,stack) tests/stack $(DURATIONS)

test-stores: $(READY_STORES)  ## run the tests against emulators of object stores: two of S3, and Azure
	@.venv-stores/bin/python -m pytest -m stores tests/stores $(DURATIONS)

test-stores-2.11: $(READY_2_11) $(READY_STORES)  ## run those of one S3 on Airflow 2.11
	@.venv-2.11/bin/python -m pytest -m "stores and not any_airflow" -k moto tests/stores $(DURATIONS)

test-models: $(READY_DEV)  ## run the tests of the real local models, and download the models once (177 MB)
	@.venv/bin/python -m pytest -m "models and not torch" $(call marked,models) $(DURATIONS)

test-2.11: $(READY_2_11)  ## run the tests that depend on the Airflow version on Airflow 2.11, also under its scheduler and triggerer
	@.venv-2.11/bin/python -m pytest -m "not any_airflow and not stack and not models and not torch" $(PARALLEL) $(DURATIONS) $(VERSIONED)
	@.venv-2.11/bin/python -m pytest tests/stack/test_airflow_2.py

# One warning is of the pre-release's own code.
test-3.4: $(READY_3_4)  ## run them on the pre-release of Airflow 3.4, also every operator and decorator in a loop, and the pages in a browser
	@.venv-3.4/bin/python -m pytest -m "$(PLAIN) and not any_airflow" $(PARALLEL) $(DURATIONS) $(VERSIONED)
	@.venv-3.4/bin/python -m pytest -W "ignore:The Result.tuples" tests/operators/test_loops.py
	@.venv-3.4/bin/python -m pytest tests/stack/test_pages.py $(DURATIONS)

# Old releases of dependencies warn of what newer ones of others no longer have, and one of Hypothesis of an object that it
# does not find because the tests exempt it from garbage collection.
test-lowest: $(READY_LOWEST)  ## run them, and those of rows, requests, documents and models, with the lowest versions of all dependencies
	@.venv-lowest/bin/python -m pytest -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W 'ignore:It looks like `register_random`' -m "$(PLAIN)" $(PARALLEL) $(DURATIONS) $(VERSIONED) $(LIBRARIES)

test-tuning: $(READY_TRAIN) $(READY_CLIENT)  ## run the tests that tune models, in an environment with torch
	@.venv-train/bin/python -m pytest -m torch $(call marked,torch) $(DURATIONS)
	@.venv-train/bin/python tests/client/run.py tune

test-client: $(READY) $(READY_CLIENT)  ## run the official lamini client against the local platform
	@.venv/bin/python tests/client/run.py

faults: $(READY_DEV)  ## kill tasks at every step and at random; count repeated and lost work (KILLS=500, SEED=...)
	@.venv/bin/python -m tests.faults.run --kills $(KILLS) $(if $(SEED),--seed $(SEED))

faults-stores: $(READY_STORES)  ## let each kind of fault of an object store happen at its requests (FAULTS=500, SEED=...)
	@.venv-stores/bin/python -m tests.support.stores.faults --faults $(FAULTS) $(if $(SEED),--seed $(SEED))

faults-peers: $(READY_DEV) $(READY_PEERS)  ## kill the batch operators of the OpenAI and common.ai providers and ours at the same moments
	@.venv/bin/python -m tests.faults.peers --peer-python .venv-peers/bin/python

production-trial: $(READY_PRODUCTION)  ## kill Celery workers, triggerers, scheduler and PostgreSQL under a sharded Dag (TRIAL_KILLS=100)
	@.venv-production/bin/python -m tests.production.trial --kills $(TRIAL_KILLS) $(if $(SEED),--seed $(SEED))

fuzz: $(READY_DEV)  ## attack the local platform for FUZZ_SECONDS=100 (SEED=...); ENGINE=real uses the real models
	@.venv/bin/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(ENGINE),--engine $(ENGINE))

bench: $(READY_DEV) $(READY_STORES)  ## run the short forms of the benchmarks of bench/README.md
	@.venv-stores/bin/python bench/object_store.py --check || failed=1; \
		for name in $(BENCHES); do .venv/bin/python bench/$$name.py --check || failed=1; done; \
		exit $${failed:-0}

bench-peers: $(READY_DEV) $(READY_PEERS)  ## compare the cost of waiting with the OpenAI and the common.ai provider
	@.venv/bin/python bench/waiting_peers.py --check --python .venv-peers/bin/python

docs: $(READY_DEV)  ## build the documentation site into build/site; a warning is an error
	@rm -rf build/site
	@.venv/bin/python -m sphinx --quiet --fail-on-warning --keep-going --conf-dir docs --doctree-dir build/doctrees . build/site
	@.venv/bin/python .ci/check_site.py build/site

audit:  ## compare what the environments install with published advisories
	@.ci/audit

wheel: $(READY_DEV)  ## build sdist and wheel into dist/, and check the wheel in a fresh environment
	@.ci/check-wheel 3.3

wheel-versions: $(READY_DEV)  ## the same with Airflow 2.11 and the pre-release of 3.4
	@.ci/check-wheel 2.11 3.4

clean:  ## remove environments, builds and caches
	@rm -rf .venv .venv-2.11 .venv-3.4 .venv-lowest .venv-train .venv-client .venv-peers .venv-stores .ci/stores/node_modules .venv-production .venv-audit .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): .ci/requirements-local.txt $(SET_UP)
	@.ci/venv .venv local
	@touch $@

$(READY_DEV): .ci/requirements-dev.txt $(SET_UP)
	@.ci/venv .venv dev
	@touch $(READY) $@

$(READY_2_11): .ci/requirements-dev-2.11.txt $(SET_UP)
	@.ci/venv .venv-2.11 dev-2.11 12
	@touch $@

$(READY_3_4): .ci/requirements-dev-3.4.txt $(SET_UP)
	@.ci/venv .venv-3.4 dev-3.4
	@touch $@

# The lowest versions of some dependencies have no files for newer Pythons.
$(READY_LOWEST): .ci/requirements-lowest.txt $(SET_UP)
	@.ci/venv .venv-lowest lowest 11
	@touch $@

# torch takes 1 GB, so training has a separate environment and no other test loads it.
$(READY_TRAIN): .ci/requirements-train.txt $(SET_UP)
	@.ci/venv .venv-train train
	@touch $@

# The official client has old dependencies of its own.
$(READY_CLIENT): .ci/requirements-client.txt .ci/requirements-client-alone.txt .ci/python
	@echo "==> creating .venv-client for the official client: half a minute the first time"
	@"$$(.ci/python)" -m venv --clear --without-pip .venv-client
	@.ci/uv pip install -q --python .venv-client --require-hashes --no-deps \
		-r .ci/requirements-client.txt -r .ci/requirements-client-alone.txt
	@touch $@

# The other providers have a separate environment, because this provider must work without their dependencies.
$(READY_PEERS): .ci/requirements-peers.txt $(SET_UP)
	@.ci/venv .venv-peers peers
	@touch $@

# Celery, Redis and PostgreSQL are not needed elsewhere.
$(READY_PRODUCTION): .ci/requirements-production.txt $(SET_UP)
	@.ci/venv .venv-production production
	@touch $@

# The providers of the stores bring 200 packages that this provider does not need. Without Node, the emulators of Azure and a
# second S3 are left out. Node does not know the system's certificates by itself.
$(READY_STORES): .ci/requirements-stores.txt .ci/stores/package-lock.json $(SET_UP)
	@.ci/venv .venv-stores stores
	@if command -v npm >/dev/null; then \
		certificates=/etc/ssl/certs/ca-certificates.crt; \
		if [ -z "$$NODE_EXTRA_CA_CERTS" ] && [ -e $$certificates ]; then export NODE_EXTRA_CA_CERTS=$$certificates; fi; \
		npm ci --prefix .ci/stores --no-audit --no-fund --ignore-scripts --loglevel error; \
	else echo "There is no npm: the tests of Azure and of the second S3 will be skipped."; fi
	@touch $@
