# Two commands: `make bench` (the main job) and `make test`. Both set up everything they need inside .venv.
PYTHON ?= python3
VENV := .venv
TOX := $(VENV)/bin/tox

.PHONY: bench test lint clean
.DEFAULT_GOAL := bench

bench lint: $(TOX)
	@$(TOX) run -q -e test --notest
	@$(TOX) run -q -e $@

test: $(TOX)
	@$(TOX) run -q -e test

$(TOX): constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than Python 3.11: name a newer one, make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "setting up $(VENV) (once; a few minutes, PyTorch is large)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt tox
	@touch $(TOX)

clean:
	rm -rf $(VENV)
