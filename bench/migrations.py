"""Results of older versions, brought to the schema of this one: a function for each step, and a frozen example of each in tests/schemas/."""

from collections.abc import Callable
from pathlib import Path

from bench.sealed import Damaged


def result_from_1(result: dict) -> dict:
    """Schema 1 gave no reason but for failures, which began with `failed: `, and no checksum."""
    return {"diverged_at_step": None, **result, "schema": 2, "why": str(result.get("why", "")).removeprefix("failed: ")}


def grid_from_1(grid: dict) -> dict:
    """Schema 1 had no checksum."""
    return {**grid, "schema": 2}


STEPS: dict[str, dict[int, Callable[[dict], dict]]] = {"result": {1: result_from_1}, "grid": {1: grid_from_1}}


def migrate(path: Path, kind: str, content: dict) -> dict:
    """The content of an older file as this version would have written it. Raises `Damaged` if it is of no known schema."""
    schema = content.get("schema")
    # a newer file whose schema was damaged has a checksum, which no file of schema 1 has
    if isinstance(schema, bool) or not isinstance(schema, int) or schema not in STEPS[kind] or "sha256" in content:
        raise Damaged(f"{path} has schema {schema!r}, which no version ever wrote")
    while schema in STEPS[kind]:
        content = STEPS[kind][schema](content)
        schema = content["schema"]
    return content
