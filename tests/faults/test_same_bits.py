"""The same run gives the same bits, and tables the same bytes, whoever computes them in whatever order."""

import multiprocessing
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scene import TINY, Scene

from bench import grid, results, tables
from bench.presets import PRESETS


@pytest.mark.full
@pytest.mark.fault("F1", "the same run twice in fresh processes", "metrics and parameters bitwise equal")
def test_the_same_run_in_a_fresh_process_gives_the_same_bits(scene, expected, measured):
    scene.run(*TINY)
    assert scene.outcome() == expected
    measured(f"metrics, parameters and curves of {len(expected)} runs equal")


@pytest.mark.full
@pytest.mark.fault("F2", "one core against two (`taskset`)", "equal bits")
def test_one_core_gives_the_bits_of_two(tmp_path, warm, measured):
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        pytest.skip("this machine has one core")
    outcomes = []
    for chosen in (cores[:1], cores):
        scene = Scene(tmp_path / f"on-{len(chosen)}")  # nothing cached: data and programs too are made on one core, and on two
        done = scene.bench("run", "smoke", *TINY, prefix=("taskset", "-c", ",".join(map(str, chosen))))
        assert done.code == 0, done.said
        assert f"{len(chosen)} workers" in done.said
        outcomes.append(scene.outcome())
    assert outcomes[0] == outcomes[1]
    measured(f"{len(outcomes[0])} runs equal, data made anew on each")


def write_some(output: Path, preset, runs: list, seed: int) -> None:
    """One of many processes that finish runs: each writes its share in an order of its own."""
    runs = list(runs)
    random.Random(seed).shuffle(runs)
    recording = {"recording": {"starts": 4}}
    code = {"training": 1, "evaluation": 1, "rows": "r", "commit": None, "dirty": None, "device": "cpu", "platform": "x"}
    code["versions"] = {"jax": "1", "python": "3"}
    for cell, s in runs:
        value = (len(cell.model) * 31 + (s or 0) * 7) % 97 / 97 + 0.01
        result = {"run": cell.run_id(s), "system": cell.system, "model": cell.model, "seed": s, "status": "finished", "configuration": recording}
        curves = {"time": np.arange(3.0), "energy_error": np.full((4, 3), value, np.float32)}
        results.write(grid.folder(output, result["run"]), result | {"metrics": {"rollout_error": value}, "speed": {}, "provenance": code}, curves)
    tables.write(output)  # while others write


@pytest.mark.full
@pytest.mark.fault("F17", "200 runs finishing at once from 8 processes", "200 rows, byte-identical whatever the order")
def test_many_runs_that_finish_at_once_are_all_there_in_the_same_bytes(tmp_path, measured):
    preset = replace(PRESETS["smoke"], systems=("relativistic_particle",), models=("second_order_ode", "hnn"), seeds=tuple(range(98)))
    runs = [(cell, seed) for cell in grid.cells(preset) for seed in cell.seeds]
    assert len(runs) == 200
    bytes_of = []
    for order in (1, 2):
        output = tmp_path / str(order)
        grid.write_manifest(output, "smoke", preset)
        context = multiprocessing.get_context("spawn")
        shares = [runs[i::8] for i in range(8)] if order == 1 else [runs[25 * i : 25 * i + 25] for i in range(8)]
        processes = [context.Process(target=write_some, args=(output, preset, share, order * 100 + i)) for i, share in enumerate(shares)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        tables.write(output)
        bytes_of.append({p.name: p.read_bytes() for p in output.iterdir() if p.is_file()})
        assert not list(output.rglob(".*.partial"))
    assert bytes_of[0] == bytes_of[1]
    lines = bytes_of[0]["runs.csv"].decode().splitlines()
    assert len(lines) == 201
    assert all(",finished," in line for line in lines[1:])
    measured(f"{len(lines) - 1} rows, {len(bytes_of[0])} derived files equal in two orders")
