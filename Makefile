# `make` alone lists what there is; the text after ## is that list.

PREFIX ?= /usr/local
VENV ?= .venv
export PREFIX VENV

RUN = tools/run.sh
SETUP_RUN = tools/setup.sh run
SETUP_DEV = tools/setup.sh dev
SETUP_VM = tools/setup.sh vm
PYTHON_SOURCES = mmwatch tests tools $(wildcard bench)
C_SOURCES = $(shell find bpf $(wildcard tests bench) -name '*.[ch]')
SHELL_SOURCES = .ci/run $(shell find tools $(wildcard tests bench) -name '*.sh')

.PHONY: help setup demo install uninstall test test-unit test-live test-vm lint format bench dist clean

help: ## this list
	@echo 'make TARGET [ARGS="..."] [VENV=$(VENV)] [PREFIX=$(PREFIX)]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

setup: ## bring what is missing: BCC from the distribution (root), the rest into VENV
	@$(SETUP_RUN)

demo: ## a small reclaim load and mmwatch top on it (root); ARGS="-d 5s" for another length
	@$(SETUP_RUN)
	@$(RUN) mmwatch demo $(ARGS)

install: ## mmwatch for everybody: an environment of its own under PREFIX, the command, the manual (root)
	@tools/install.sh install

uninstall: ## take away exactly what install put there
	@tools/install.sh uninstall

test: ## every test (root: BPF, other user lands, virtual machines; anybody else: the rest); ARGS="-k WORD" for some
	@if [ "$$(id -u)" = 0 ]; then $(SETUP_VM); else $(SETUP_DEV); fi
	@MMWATCH_RUN_VM=$$([ "$$(id -u)" = 0 ] && echo 1) $(RUN) python -m pytest $(ARGS)

test-unit: ## the tests that need neither root nor BPF
	@$(SETUP_DEV)
	@$(RUN) python -m pytest tests/unit tests/contract $(ARGS)

test-live: ## the tests on this machine's kernel (root); a skip without a written reason fails
	@[ "$$(id -u)" = 0 ] || { echo 'live tests load BPF programs: sudo make test-live' >&2; exit 77; }
	@$(SETUP_DEV)
	@MMWATCH_RUN_LIVE=1 $(RUN) python -m pytest tests/live $(ARGS)

test-vm: ## the tests on other kernels with two NUMA nodes, in virtual machines; ARGS="-k 6.1-classic" for some
	@$(SETUP_VM)
	@$(RUN) python -m pytest tests/vm $(ARGS)

lint: ## ruff, mypy, vermin (Python 3.9), clang-format, shellcheck
	@$(SETUP_DEV)
	$(RUN) ruff check $(PYTHON_SOURCES)
	$(RUN) ruff format --check $(PYTHON_SOURCES)
	$(RUN) mypy
	$(RUN) vermin --quiet --no-tips --violations --target=3.9- mmwatch
	$(if $(C_SOURCES),$(RUN) clang-format --dry-run -Werror $(C_SOURCES))
	$(RUN) shellcheck --external-sources $(SHELL_SOURCES)

format: ## rewrite the sources as lint wants them
	@$(SETUP_DEV)
	$(RUN) ruff check --fix-only --quiet $(PYTHON_SOURCES)
	$(RUN) ruff format $(PYTHON_SOURCES)
	$(if $(C_SOURCES),$(RUN) clang-format -i $(C_SOURCES))

bench: ## the measurements the README quotes (root)
	@$(SETUP_DEV)
	@$(RUN) python -m bench $(ARGS)

dist: ## a source archive and a wheel in dist/
	@$(SETUP_DEV)
	@$(RUN) python tools/dist.py dist

clean: ## remove what building and testing left, and VENV when it is in the checkout
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .venv mmwatch.egg-info
	find mmwatch tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
