# Every target does its own set-up. `make` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --no-input
INSTALLED := $(VENV)/.installed
# The CUDA engine has the CPU engine's import name: an environment of its own.
VENV_GPU := .venv-gpu
INSTALLED_GPU := $(VENV_GPU)/.installed
TORCH := 2.13.0
TORCH_INDEX := https://download.pytorch.org/whl/cpu
BUF := @bufbuild/buf@1.75.0
RELEASED := tests/proto/released.binpb
ZIG := $(shell sed -n 's/^COMPILER = "\(.*\)"/\1/p' server/graft/server/engine/native/libraries.py)
BASE := adapters/graft/adapters/base/shipped/rootstock-5m
# protoc finds its plugins, and `graft` its children, in the environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Of what pip says: a count now and then, large downloads, and errors. An index that lacks a package is no news.
define BRIEF
awk '/^Collecting/ { if (++n % 40 == 0) print "      " n " packages" } \
  / Downloading .* MB\)$$/ { if (substr($$(NF - 1), 2) + 0 >= 50) { sub(/^ +/, "      "); print } } \
  /^Installing collected/ { print "      installing" } \
  /^(ERROR|WARNING)/ && !/ is ignored: / { print } { fflush() }'
endef
define FIND_PYTHON
python=$$(for name in $${PYTHON_FOR_VENV:-} python3.11 python3.12 python3.13 python3; do \
  if $$name -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
  then echo $$name; break; fi; done); \
if [[ -z "$$python" ]]; then \
  echo "No Python 3.11, 3.12 or 3.13 with venv was found. Install one (Debian: apt install python3-venv)," >&2; \
  echo "or name one: make $@ PYTHON_FOR_VENV=/path/to/python3.11" >&2; exit 1; fi
endef

.PHONY: help setup setup-gpu demo tour serve test test-slow test-processors test-gpu gpu-report check check-deploy check-gpu-lock check-stubs check-contract base kernels proto picture release-contract lock bench clients clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## create .venv with everything for two CPU cores: engine, training, tools

$(INSTALLED): pyproject.toml requirements/cpu.lock
	@$(FIND_PYTHON); \
	if [[ "$$(uname -s)" == Linux ]]; then $$python proto/graft/cli/system_parts.py; fi; \
	echo "[1/4] environment in $(VENV) with $$($$python --version)"; \
	if [[ ! -x $(PYTHON) ]]; then $$python -m venv $(VENV); fi
	@echo "[2/4] torch $(TORCH)"; \
	install() { $(PIP) install --progress-bar off "$$@"; }; \
	if install --no-deps "torch==$(TORCH)+cpu" 2> /dev/null | $(BRIEF); then :; \
	elif echo "      not where pip looks: from PyTorch's own CPU index"; \
	  install --retries 1 --timeout 15 --no-deps --index-url $(TORCH_INDEX) "torch==$(TORCH)+cpu" 2> /dev/null | $(BRIEF); then :; \
	elif echo "      not there either: the ordinary build, with CUDA's libraries (gigabytes)"; \
	  install "torch==$(TORCH)" 2>&1 | $(BRIEF); then :; \
	else echo "torch $(TORCH) cannot be had for this Python: see above. Another Python may have it:" >&2; \
	  echo "make clean && make setup PYTHON_FOR_VENV=/path/to/python3.11" >&2; exit 1; fi
	@echo "[3/4] $$(grep -c == requirements/cpu.lock) packages from requirements/cpu.lock"; \
	$(PIP) install --progress-bar off --no-deps --requirement requirements/cpu.lock 2>&1 | $(BRIEF)
	@echo "[4/4] graft itself"; \
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup-gpu: $(INSTALLED_GPU) ## create .venv-gpu with the CUDA engine, training and tools (gigabytes): Linux on x86-64

$(INSTALLED_GPU): pyproject.toml requirements/gpu.lock
	@$(FIND_PYTHON); \
	echo "[1/3] environment in $(VENV_GPU) with $$($$python --version)"; \
	if [[ ! -x $(VENV_GPU)/bin/python ]]; then $$python -m venv $(VENV_GPU); fi
	@echo "[2/3] $$(grep -c == requirements/gpu.lock) packages from requirements/gpu.lock"; \
	$(VENV_GPU)/bin/python -m pip --disable-pip-version-check --no-input install --progress-bar off --no-deps \
	  --requirement requirements/gpu.lock 2>&1 | $(BRIEF)
	@echo "[3/3] graft itself: $(VENV_GPU)/bin/graft"; \
	$(VENV_GPU)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps --no-build-isolation --editable .
	@$(VENV_GPU)/bin/graft doctor || true
	@touch $@

demo: setup ## show everything once, on the real engine; leaves nothing running
	@graft demo

tour: setup ## what prompting can do on the shipped base, and what it cannot: writes build/tour.html
	@mkdir -p build
	@GRAFT_SERVER= graft tour prompting --html build/tour.html

serve: setup ## serve the shipped base until Ctrl-C
	@graft serve

# In two processes: one asks servers and mostly waits, the other trains and computes. A test that waits for ever ends
# its process, which says where it stood.
TWO := -n 2 -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true

test: setup ## the tests
	@$(PYTHON) -m pytest -q $(TWO)

test-slow: setup ## the tests that take longer than a minute each
	@$(PYTHON) -m pytest -q -m slow

# What torch, oneDNN and our kernels may use: from the oldest processors to the last step below this one's.
test-processors: setup ## the tests under each narrower set of instructions that this machine can be told to use
	@for limits in default:SSE41:torch avx2:AVX2:avx2 avx512:AVX512_CORE:avx512; do \
	  IFS=: read -r aten onednn lora <<< "$$limits"; echo "+ torch $$aten, oneDNN $$onednn, LoRA $$lora"; \
	  ATEN_CPU_CAPABILITY=$$aten ONEDNN_MAX_CPU_ISA=$$onednn GRAFT_LORA_KERNEL=$$lora $(PYTHON) -m pytest -q $(TWO); done

test-gpu: ## the tests for a CUDA device, in .venv-gpu; says so where there is none
	@if ! compgen -G "/dev/nvidia[0-9]*" > /dev/null && ! nvidia-smi --list-gpus 2> /dev/null | grep -q GPU; then \
	  echo "test-gpu: skipped, no CUDA device here (no /dev/nvidia0, and nvidia-smi lists none)"; \
	else $(MAKE) --no-print-directory setup-gpu \
	  && PATH="$(CURDIR)/$(VENV_GPU)/bin:$$PATH" $(VENV_GPU)/bin/python -m pytest -q -m gpu tests/gpu; fi

# Nothing is installed: whichever environment sees the GPU runs it, with what it has.
gpu-report: ## on a machine with a GPU: what this card gives, in nine minutes, with whatever is installed
	@for python in .venv-gpu/bin/python $(PYTHON) python3; do \
	  if $$python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then break; fi; done; \
	report=$${REPORT:-build/gpu-report.json}; mkdir -p "$$(dirname "$$report")"; \
	PYTHONPATH=proto:adapters:server:training:. $$python -m graft.bench.training.gpu --json "$$report" $${FLAGS:-}

check: setup ## format, lint, types, import rules, lock, kernels, the house's picture, stubs, contract
	@ruff format --check --quiet . || { ruff format --check . | tail -20; exit 1; }
	@ruff check --quiet .
	@mypy
	@lint-imports --no-cache --show-timings 2>&1 | awk '/KEPT|BROKEN|Contracts:/ { print; next } /Broken contracts/ { all = 1 } all' \
	  || { lint-imports --no-cache; exit 1; }
	@$(PYTHON) tests/tools/check_lock.py
	@$(PYTHON) -m graft.server.engine.native.build --check
	@$(PYTHON) tests/tools/house_picture.py --check
	@$(MAKE) --no-print-directory check-stubs check-contract
	@echo "check: all is well"

check-gpu-lock: setup ## ask uv and pip whether all that a GPU machine installs can be had; installs nothing
	@$(PYTHON) -m tests.tools.check_gpu_lock

# The committed stubs are what protoc makes of the .proto files today.
check-stubs: setup
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(MAKE) --no-print-directory proto STUBS="$$folder"; \
	diff --recursive --brief --exclude='*.proto' --exclude=py.typed --exclude=__pycache__ "$$folder/graft/v1" proto/graft/v1 \
	  || { echo "the stubs in proto/graft/v1 are not those of the .proto files: run make proto" >&2; exit 1; }

# Whoever speaks the last release's contract speaks today's.
check-contract:
	@if ! command -v npx > /dev/null; then echo "buf: skipped, no Node here"; \
	elif ! timeout 60 npx --yes $(BUF) --version > /dev/null 2>&1; then echo "buf: skipped, $(BUF) cannot be fetched"; \
	else { npx --yes $(BUF) lint && npx --yes $(BUF) breaking --against $(RELEASED); } 2> >(grep -v '^npm warn' >&2); fi

# Kubernetes' own schemas are 16 MB of wheel: not in the lock.
DEPLOY_TOOLS := build/deploy-tools
check-deploy: setup ## deploy/: its manifests, rules and metrics, and the CPU image upon a bare Debian (as root, a quarter of an hour)
	@if [[ ! -d $(DEPLOY_TOOLS)/kubernetes_validate ]]; then \
	  $(PIP) install --quiet --no-deps --target $(DEPLOY_TOOLS) kubernetes-validate==1.35.0 importlib-resources==7.1.0 2>&1 | $(BRIEF); fi
	@PYTHONPATH=$(DEPLOY_TOOLS) $(PYTHON) -m pytest -q tests/deploy
	@$(PYTHON) -m tests.tools.deploy

kernels: setup ## compile the CPU kernels again, with a compiler that comes as a wheel (a hundred megabytes)
	@$(PIP) install --quiet --target build/zig --upgrade "$(ZIG)"
	@PYTHONPATH=build/zig $(PYTHON) -m graft.server.engine.native.build $(PYTHON) -m ziglang c++

STUBS := proto
proto: setup ## generate the stubs from the .proto files
	@$(PYTHON) -m grpc_tools.protoc -Iproto --python_out=$(STUBS) --grpc_python_out=$(STUBS) \
	  --mypy_out=quiet:$(STUBS) --mypy_grpc_out=quiet:$(STUBS) proto/graft/v1/*.proto

picture: setup ## draw the rooms and who imports whom, for CONTRIBUTING
	@$(PYTHON) tests/tools/house_picture.py

release-contract: setup ## keep the contract of today as the released one, which later ones must not break
	@$(PYTHON) -m grpc_tools.protoc -Iproto --include_imports --descriptor_set_out=$(RELEASED) proto/graft/v1/*.proto

# Where both machines have a package, in the same version. torch is the CUDA build here: what PyPI has for Linux.
lock: setup ## pin every package again, for the CPU engine, for the CUDA engine and for images
	@uv pip compile pyproject.toml --quiet --extra cpu --extra dev --universal --python-version 3.11 --no-header --no-annotate \
	  $${PIP_FIND_LINKS:+--find-links $$PIP_FIND_LINKS} --no-emit-package torch --output-file requirements/cpu.lock
	@uv pip compile pyproject.toml --quiet --extra server --extra training --extra gpu --extra dev --universal \
	  --python-version 3.11 --no-config --no-header --no-annotate --constraint requirements/cpu.lock \
	  --output-file requirements/gpu.lock
	@uv pip compile pyproject.toml --quiet --extra cpu --extra image --universal --python-version 3.11 --no-header --no-annotate \
	  $${PIP_FIND_LINKS:+--find-links $$PIP_FIND_LINKS} --no-emit-package torch --constraint requirements/cpu.lock \
	  --output-file requirements/cpu-image.lock
	@uv pip compile pyproject.toml --quiet --extra gpu --extra image --python-platform x86_64-manylinux_2_28 \
	  --python-version 3.11 --no-config --no-header --no-annotate --constraint requirements/gpu.lock \
	  --output-file requirements/gpu-image.lock

base: setup ## pretrain the shipped base again, about an hour on two cores
	@graft pretrain --recipe rootstock-5m --output $(BASE)

bench: setup ## measure throughput and latency of the shipped base with and without adapters
	@graft bench

# Each client in an environment of its own: they ask for different versions of openai's.
CLIENTS := openai langchain-openai litellm instructor langfuse lm-eval
clients: setup ## install other people's clients, newest versions, in .venv-clients: the slow tests use them
	@for client in $(CLIENTS); do \
	  folder=.venv-clients/$$client; \
	  case $$client in lm-eval) packages="lm-eval[api] transformers";; *) packages=$$client;; esac; \
	  if [[ ! -x $$folder/bin/python ]]; then $(PYTHON) -m venv $$folder; fi; \
	  $$folder/bin/python -m pip --disable-pip-version-check --no-input install --progress-bar off --upgrade $$packages \
	    2>&1 | $(BRIEF); \
	  $$folder/bin/python -c "import importlib.metadata as m; print('$$client', m.version('$$client'))"; \
	  touch $$folder/.installed; \
	done

clean: ## remove the environments and caches
	@rm -rf $(VENV) $(VENV_GPU) .venv-clients .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
