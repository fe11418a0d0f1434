# Two commands: `make run` and `make test`. Everything they need goes into $(VENV).
PYTHON ?= python3
VENV ?= .venv
RUN ?= run
MODEL ?= ssd-mobilenet-v2

export PYTHON
# The tests start hundreds of processes: without bytecode each compiles anew what it imports.
unexport PYTHONDONTWRITEBYTECODE
# What `make run` fetches stays in the working tree.
export SEATRIAL_HOME ?= $(CURDIR)/$(RUN)/home
SEATRIAL = $(VENV)/bin/seatrial

# More than cores: tests wait for servers and processes that they start, a third of their time.
WORKERS = $$(n=$$(nproc); echo $$((n + (n > 1 ? n / 2 : 1))))

# Files with slow tests go first (tests/conftest.py): xdist may not sort them anew. A process
# that dies ends the run: what xdist starts in its place may wait for tests for ever.
PYTEST = $(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0

.PHONY: run test quick lint format docs audit clean help

help: ## Show the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

run: ## From nothing to the report: install, fetch a detector, serve it, measure it, explain it.
	@scripts/environment $(VENV) all
	@$(SEATRIAL) models pull $(MODEL) >/dev/null
	@$(SEATRIAL) data sample photos -o $(RUN)/photos >/dev/null
	@$(SEATRIAL) bench --model $(MODEL) --images $(RUN)/photos -o $(RUN)

test: ## Install what the tests need and run them all.
	@scripts/environment $(VENV) all,test
	$(PYTEST)

quick: ## The same without what takes long: for every day.
	@scripts/environment $(VENV) all,test
	$(PYTEST) -m "not slow"

lint: ## Check format, lint and types.
	@scripts/environment $(VENV) all,test,lint
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: ## Format the code.
	@scripts/environment $(VENV) all,test,lint
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: ## Build the documentation as a site, build/site/index.html, which needs no network.
	@scripts/environment $(VENV) docs
	@$(VENV)/bin/python scripts/site

audit: ## Look the pinned dependencies up in databases of known weaknesses; 3: none can be reached.
	@scripts/environment $(VENV)-audit audit
	@$(VENV)-audit/bin/python scripts/audit

clean: ## Remove what the other targets made.
	rm -rf $(VENV) $(VENV)-audit $(RUN) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
