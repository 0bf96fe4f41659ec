"""Speed of every model and operator, and what of it can be counted exactly. `make perf-check` compares; `pytest tests/perf -n 0` shows."""

import pytest

from bench import cases


@pytest.mark.parametrize("name", cases.names())
def test_speed(benchmark, name):
    case = cases.build(name)
    benchmark.extra_info.update(case.figures)
    benchmark.pedantic(case.call, rounds=5, warmup_rounds=1)
