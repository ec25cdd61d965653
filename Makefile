# The commands of this project; CI runs the same ones.
#
#   make demo [ARGS="--seconds 60"]   the demonstration: no server, no Java, no torch needed
#   make test [ARGS="-k gmm"]         every test, two at a time (TEST_JOBS=0: one after another, in this
#                                     process); those with a real Kafka need Java 17 and Maven
#   make check                        lint, format, types, import rules
#
# All of them make .venv first. VENV=/path uses an environment that exists, as it is, and this
# checkout from PYTHONPATH: several checkouts can share one.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Much of a test with real servers is waiting; files stay together, since their tests share what they trained.
TEST_JOBS ?= 2

RUN := $(VENV)/bin/python
# One BLAS thread: batches are small, and threads that wait for each other cost more than they give.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
export PYTHONPATH := $(CURDIR)
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check format kafka-jars system-packages demo-environment test-environment clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: demo-environment
	$(RUN) -m detector.cli.main demo $(ARGS)

test: test-environment kafka-jars
	$(RUN) -m pytest -n $(TEST_JOBS) --dist loadfile $(ARGS)

check: test-environment
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -q tests/test_import_rules.py

format: test-environment
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# --- environments: a stamp says what is installed, so a second call does nothing ---------------

ifeq ($(abspath $(VENV)),$(CURDIR)/.venv)
demo-environment: $(VENV)/.installed-demo
test-environment: $(VENV)/.installed-test

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "detector needs Python 3.11 or newer, this is %s: set PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Compiling every file of scipy and pyarrow takes longer than compiling the few that are imported.
$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(VENV)/.created
	$(RUN) -m pip install --quiet --no-compile -e '.[train,confluent]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.created
	$(RUN) -m pip install --quiet --no-compile -e '.[all]'
	@touch $@ $(VENV)/.installed-demo
else
demo-environment test-environment:
	@test -x $(RUN) || { echo "VENV=$(VENV) has no bin/python; leave VENV out and .venv is made" >&2; exit 1; }
endif

# --- what the tests need beside Python ----------------------------------------------------------

kafka-jars:
	@if command -v java >/dev/null && command -v mvn >/dev/null; then sh tests/kafka/fetch.sh; fi

# Debian and Ubuntu; .ci/run calls it. Elsewhere: Java 17, Maven, promtool from Prometheus, and Alertmanager.
system-packages:
	@missing=""; \
	command -v java >/dev/null || missing="$$missing openjdk-17-jre-headless"; \
	command -v mvn >/dev/null || missing="$$missing maven"; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	{ command -v prometheus-alertmanager || command -v alertmanager; } >/dev/null || missing="$$missing prometheus-alertmanager"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	else \
		echo "missing, and not installed without root and apt-get:$$missing" >&2; \
	fi

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache build dist
