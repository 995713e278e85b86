# Plain `make` lists the targets; the text after ## is their help.

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

.PHONY: help setup demo install uninstall test test-unit test-live test-vm lint format man bench verdicts dist clean

help: ## show this list
	@echo 'make TARGET [ARGS="..."] [VENV=$(VENV)] [PREFIX=$(PREFIX)]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

setup: ## install what is missing: BCC from the distribution (root), the rest into VENV
	@$(SETUP_RUN)

demo: ## run mmwatch top on a small reclaim load (root); ARGS="-d 5s" changes the duration
	@$(SETUP_RUN)
	@$(RUN) mmwatch demo $(ARGS)

install: ## install mmwatch for all users under PREFIX: its own environment, the command, the manual (root)
	@tools/install.sh install

uninstall: ## remove exactly what install added
	@tools/install.sh uninstall

test: ## run every test (BPF, other userlands and virtual machines only as root); ARGS="-k WORD" selects some
	@if [ "$$(id -u)" = 0 ]; then $(SETUP_VM); else $(SETUP_DEV); fi
	@MMWATCH_RUN_VM=$$([ "$$(id -u)" = 0 ] && echo 1) $(RUN) python -m pytest $(ARGS)

test-unit: ## run the tests that need neither root nor BPF
	@$(SETUP_DEV)
	@$(RUN) python -m pytest tests/unit tests/contract $(ARGS)

test-live: ## run the tests on this machine's kernel (root); a skip without a written reason fails
	@[ "$$(id -u)" = 0 ] || { echo 'live tests load BPF programs: sudo make test-live' >&2; exit 77; }
	@$(SETUP_DEV)
	@MMWATCH_RUN_LIVE=1 $(RUN) python -m pytest tests/live $(ARGS)

test-vm: ## run the tests on other kernels with two NUMA nodes, in virtual machines; ARGS="-k 6.1-classic" selects some
	@$(SETUP_VM)
	@$(RUN) python -m pytest tests/vm $(ARGS)

lint: ## run ruff, mypy, vermin (Python 3.9), clang-format, shellcheck
	@$(SETUP_DEV)
	$(RUN) ruff check $(PYTHON_SOURCES)
	$(RUN) ruff format --check $(PYTHON_SOURCES)
	$(RUN) mypy
	$(RUN) vermin --quiet --no-tips --violations --target=3.9- mmwatch
	$(if $(C_SOURCES),$(RUN) clang-format --dry-run -Werror $(C_SOURCES))
	$(RUN) shellcheck --external-sources $(SHELL_SOURCES)

format: ## format the sources as lint expects
	@$(SETUP_DEV)
	$(RUN) ruff check --fix-only --quiet $(PYTHON_SOURCES)
	$(RUN) ruff format $(PYTHON_SOURCES)
	$(if $(C_SOURCES),$(RUN) clang-format -i $(C_SOURCES))

man: ## renew the generated parts of the manual pages
	@$(SETUP_DEV)
	@$(RUN) python tools/manual.py

bench: ## run the measurements that the README quotes (root)
	@$(SETUP_DEV)
	@$(RUN) python -m bench $(ARGS)

verdicts: ## print what diagnose says of each trouble on each kernel, in virtual machines; takes hours (root)
	@$(SETUP_VM)
	@PYTHONPATH=. $(RUN) python tests/vm/matrix.py $(ARGS)

dist: ## build a source archive and a wheel in dist/
	@$(SETUP_DEV)
	@$(RUN) python tools/dist.py dist

clean: ## remove what building and testing left, and .venv
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .venv mmwatch.egg-info
	find mmwatch tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
