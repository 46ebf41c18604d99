#!/usr/bin/env bash
# The plan for a GPU that is lent for a quarter of an hour: see tests/benchmarks/gpu_plan.py, also for the environment.
cd "$(dirname "$0")/../.." && exec "${PYTHON:-python}" -m tests.benchmarks.gpu_plan "$@"
