# Each target does all of its own set-up: a machine with python3, venv and a C++ compiler is enough.
# A sourced ROS installation is used where there is one; otherwise ROS comes from PyPI.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# rclpy of a sourced ROS belongs to the system's Python: the environment must see its packages.
SYSTEM_ROS := $(shell test -n "$$ROS_DISTRO" && $(PYTHON) -c "import rclpy" 2>/dev/null && echo yes)
STAMP := $(VENV)/.installed
# pip brings its own setuptools; packages are resolved once, then the stamp says so.
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint benchmarks clean setup

demo: $(STAMP)
	$(BIN)/av-compress demo --output out/demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The models and data of some are not part of the project: see docs/benchmarks.md.
benchmarks: demo
	$(BIN)/python benchmarks/observers.py
	$(BIN)/python benchmarks/node_overhead.py --bundle out/demo/bundle --minutes 10
	$(BIN)/python benchmarks/load.py --bundle out/demo/bundle
	$(BIN)/python benchmarks/fidelity.py
	$(BIN)/python benchmarks/mixed_precision.py
	$(BIN)/python benchmarks/kinds.py
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/choice.py
	$(BIN)/python benchmarks/lidar.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/thresholds.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/cpu_peers.py
	$(BIN)/python benchmarks/build.py
	$(BIN)/python scripts/render_benchmarks.py

setup: $(STAMP)

$(STAMP): setup.py av_compress/__init__.py av_compress/data/message_definitions.py scripts/generate_messages.py scripts/build_pycuda.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(if $(SYSTEM_ROS),--system-site-packages) $(VENV)
	$(PIP) install --quiet --editable ".[$(if $(SYSTEM_ROS),dev,dev,ros)]"
	$(BIN)/python scripts/generate_messages.py >$(VENV)/messages.log 2>&1 || { cat $(VENV)/messages.log; exit 1; }
	$(BIN)/python scripts/build_pycuda.py
	touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
