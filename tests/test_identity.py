"""A name changes when, and only when, what it names changes."""

from dataclasses import replace

from bench import grid, identity
from bench.presets import PRESETS

SMOKE = PRESETS["smoke"]


def cell(system="wave", model="lnn", **changes):
    return grid.Cell(replace(SMOKE, **changes), system, model)


def test_a_run_is_named_by_system_model_seed_and_configuration():
    names = {cell().run_id(0), cell().run_id(1), cell(model="hnn").run_id(0), cell(system="double_pendulum").run_id(0), cell(steps=101).run_id(0)}
    assert len(names) == 5
    assert cell().run_id(0) == cell(seeds=(0, 7), models=("lnn",)).run_id(0)


def test_comments_and_docstrings_do_not_count_and_code_does(tmp_path):
    def tree(text):
        path = tmp_path / f"{abs(hash(text))}.py"
        path.write_text(text)
        return identity._syntax(path)

    plain = tree("def f(x):\n    return x + 1\n")
    assert tree('"""Module."""\n\n\ndef f(x):\n    """Doc."""\n    # why\n    return (x + 1)\n') == plain
    assert tree("def f(x):\n    return x + 2\n") != plain


def test_a_row_that_builds_on_another_depends_on_its_code():
    files = identity._with_imports(identity.ROOT / "models" / "hnn_naive.py")
    assert {path.name for path in files if not path.name.startswith("_")} == {"hnn_naive.py", "hnn.py"}


def test_the_code_of_one_model_is_not_part_of_another_models_name():
    assert identity.code("wave", "lnn", ()) != identity.code("wave", "hnn", ())
    training = identity.code("wave", "lnn", identity.TRAINING_CODE)
    assert training != identity.code("wave", "lnn", (*identity.TRAINING_CODE, *identity.EVALUATION_CODE))


def test_canonical_text_does_not_depend_on_the_order_of_fields():
    assert identity.canonical({"a": 1, "b": (2, 3)}) == identity.canonical({"b": [2, 3], "a": 1})
