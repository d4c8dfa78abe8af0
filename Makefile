# Two commands: `make bench` (the main job) and `make test`. Both set up everything they need inside .venv.
PYTHON ?= python3
VENV := .venv
TOX := $(VENV)/bin/tox

.PHONY: bench bench-all test test-all lint gpu-evidence clean
.DEFAULT_GOAL := bench

bench lint: $(TOX)
	@$(TOX) run -q -e test --notest
	@$(TOX) run -q -e $@

# All 604 tasks, hours; MORE=--diffbench-resume goes on where it was cut off.
bench-all: $(TOX)
	@$(TOX) run -q -e test --notest
	@$(TOX) run -q -e bench -- suites $(MORE)

# The project's own tests, then the main job; a task of that which chance has failed gets a second try, alone.
test: $(TOX)
	@$(TOX) run -q -e test
	@$(TOX) run -q -e bench || $(TOX) run -q -e bench -- @suites/slice.txt --lf --benchmark-json=diffbench-again.json

test-all: $(TOX)
	@$(TOX) run -q -e test -- tests -n 2 --dist=worksteal

# On a machine with CUDA whose own Python has PyTorch: that one is used, and nothing else is changed.
gpu-evidence: $(VENV)/gpu/installed
	@$(VENV)/gpu/bin/python benchmarks/gpu_evidence.py $(MODELS)

$(VENV)/gpu/installed: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { \
	  echo "$(PYTHON) has no PyTorch that finds a GPU: name one that does, make gpu-evidence PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv --system-site-packages $(VENV)/gpu
	@grep -v '^torch' constraints.txt > $(VENV)/gpu/constraints.txt
	@$(VENV)/gpu/bin/python -m pip install --quiet --constraint $(VENV)/gpu/constraints.txt --editable .
	@touch $@

$(TOX): constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than Python 3.11: name a newer one, make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "setting up $(VENV) (once; a few minutes, PyTorch is large)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt tox
	@touch $(TOX)

clean:
	rm -rf $(VENV)
