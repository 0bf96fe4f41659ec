"""Benchmarks need the machine for themselves."""

import pytest


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError("benchmarks run one after the other: add -n 0 (with xdist, pytest-benchmark would measure nothing)")
