# The commands of Tidemark. `make help` lists them; nothing but Python 3.11 or newer is needed.

UV_VERSION := 0.13.8
TOOLS := .tools
VENV := .venv
PYTHON := $(VENV)/bin/python
SYNCED := $(VENV)/.synced
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)

# Another project's environment must not be taken for ours, nor another place for it.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH
export UV_PROJECT_ENVIRONMENT := $(VENV)

# Each program reads some thousand modules at its start: compiled once, that takes two seconds instead of five.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

# How many files of tests run at once, each beside servers of its own. They must find the same order, hence one hash
# seed for all.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench chaos fuzz simulate orders openapi texts pictures lint types contracts dependencies format worker watch api audit migrate clean temporal-program chromium-program

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(SYNCED) ## start everything on this machine, with a demo owner; Ctrl-C stops it
	@$(PYTHON) -m runtime up

demo: $(SYNCED) ## play the story of a top-up in a temporary place
	@$(PYTHON) -m runtime demo

test: $(SYNCED) ## run all tests, with real servers
	@$(MAKE) --no-print-directory -j2 temporal-program chromium-program
	PYTHONHASHSEED=0 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(SYNCED) ## everything a change must pass, exactly what CI runs
	@$(MAKE) --no-print-directory -j3 temporal-program chromium-program lint types contracts dependencies
	@$(MAKE) --no-print-directory test

# What the tests need beside Python: found, or fetched once, which may take minutes, and is said meanwhile.
temporal-program: $(SYNCED)
	@$(PYTHON) -m runtime temporal >/dev/null

chromium-program: $(SYNCED)
	@$(PYTHON) -m tests.chromium >/dev/null

lint: $(SYNCED) ## style: ruff, and its formatter
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(SYNCED) ## types: mypy, strict
	$(VENV)/bin/mypy

contracts: $(SYNCED) ## who may import whom: import-linter
	$(VENV)/bin/lint-imports

dependencies: $(SYNCED) | uv ## what others made: locked, hashed, not yanked, of no known vulnerability
	@$(PYTHON) -m tests.dependencies $(UV)

format: $(SYNCED) ## put the code into its format
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

fuzz: $(SYNCED) ## try the whole API with a great many made-up requests; FUZZ_EXAMPLES=500 for even more
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),100) $(PYTHON) -m pytest -o faulthandler_timeout=0 tests/api/test_fuzz.py tests/api/test_stateful.py $(ARGS)

simulate: $(SYNCED) ## play many seeds of trouble over the real store; STEPS=1000000 for more, SEED=7 for one, step by step
	@$(PYTHON) -m tests.simulation $(if $(SEED),--seed $(SEED),--first $(or $(FIRST),1) --steps $(or $(STEPS),100000))

orders: $(SYNCED) ## step the store's statements through a great many orders; ISOLATION_ORDERS=500 for even more
	ISOLATION_ORDERS=$(or $(ISOLATION_ORDERS),100) $(PYTHON) -m pytest -q -o faulthandler_timeout=0 tests/isolation $(ARGS)

openapi: $(SYNCED) ## write docs/openapi.json, the description of the API, anew
	@$(PYTHON) -m api describe > docs/openapi.new && mv docs/openapi.new docs/openapi.json

texts: $(SYNCED) ## collect the texts of the pages for those who translate them, into console/locales/tidemark.pot
	@$(VENV)/bin/pybabel -q extract --mapping pyproject.toml --keyword mark --omit-header --no-wrap --sort-by-file \
		--add-location file --output console/locales/tidemark.pot .

pictures: $(SYNCED) ## take pictures of every page, in both themes, phone and desktop, into docs/images
	@$(MAKE) --no-print-directory -j2 temporal-program chromium-program
	$(PYTHON) -m pytest -q --pictures tests/console/test_every_page_in_browser.py -k "for_everybody"

chaos: temporal-program ## strike every program at every step of a top-up, a thousand times; CASE=... plays one again
	$(PYTHON) -m tests.chaos $(if $(CASE),--case $(CASE)) $(if $(STRIKES),--strikes $(STRIKES)) $(if $(LANES),--lanes $(LANES)) $(if $(SEED),--seed $(SEED))

bench: $(SYNCED) ## measure, as ratios taken in one run
	@$(PYTHON) -m tests.bench

worker: $(SYNCED) ## one worker, with the settings of the environment
	@$(PYTHON) -m worker

watch: $(SYNCED) ## one balance watcher
	@$(PYTHON) -m starter watch

api: $(SYNCED) ## one API
	@$(PYTHON) -m api

audit: $(SYNCED) ## look whether the books agree, also while everything runs; it changes nothing
	@$(PYTHON) -m starter audit

migrate: $(SYNCED) ## bring the database up to date
	@$(PYTHON) -m adapters.postgres upgrade

clean: ## remove what was built and fetched; the state in .tidemark stays
	rm -rf $(VENV) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The dependencies, exactly as locked. The second try trusts the machine's own certificates, which uv by itself
# does not, and which a company's network may need.
$(SYNCED): uv.lock pyproject.toml | uv
	@$(UV) sync --frozen --quiet 2>/dev/null || UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 $(UV) sync --frozen --quiet
	@touch $@

# uv itself, from the PATH or else fetched once into a folder of the project.
.PHONY: uv
uv:
	@command -v "$(UV)" >/dev/null 2>&1 || $(MAKE) --no-print-directory $(TOOLS)/bin/uv

$(TOOLS)/bin/uv:
	@command -v python3 >/dev/null 2>&1 || { \
		echo "Python is missing: install Python 3.11 or newer (python3), then try again." >&2; exit 1; }
	@python3 -m pip --version >/dev/null 2>&1 || { \
		echo "uv is missing, and this python3 has no pip to fetch it with: install uv" >&2; \
		echo "(https://docs.astral.sh/uv/) or pip (on Debian: apt install python3-pip), then try again." >&2; exit 1; }
	@echo "Fetching uv $(UV_VERSION) into $(TOOLS), once."
	@rm -rf $(TOOLS)/.fetching && mkdir -p $(TOOLS)
	@PIP_USER=0 python3 -m pip install --quiet --disable-pip-version-check --no-deps --root-user-action=ignore \
		--target $(TOOLS)/.fetching "uv==$(UV_VERSION)" || { \
		echo "uv could not be fetched. Install it (https://docs.astral.sh/uv/), then try again." >&2; exit 1; }
	@rm -rf $(TOOLS)/bin && mv $(TOOLS)/.fetching/bin $(TOOLS)/bin && rm -rf $(TOOLS)/.fetching
