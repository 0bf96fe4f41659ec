"""Floating-point operations of a function, counted from its jaxpr: XLA's own count takes the body of a loop once."""

from math import prod

import jax
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr

# one operation per element of the result
ELEMENTWISE = frozenset(
    [
        *("add", "sub", "mul", "div", "rem", "max", "min", "neg", "abs", "sign", "floor", "ceil", "round", "exp", "exp2", "log", "log1p", "expm1"),
        *("sin", "cos", "tan", "tanh", "logistic", "sqrt", "rsqrt", "cbrt", "pow", "integer_pow", "square", "atan2", "erf", "add_any", "select_n"),
    ]
)
# one operation per element of the argument
REDUCTIONS = frozenset(["reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin", "cumsum", "cumlogsumexp", "cummax"])


def flops(function, *arguments) -> int:
    """Operations of one call: 2mnk of a product of matrices, one per element of arithmetic and elementary functions, scan bodies times their length.

    What no result depends on doesn't count.
    Of the branches of a condition the most expensive one counts. Loops of unknown length (while) count once, linear-algebra kernels not at all.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    needed, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))  # derivatives leave behind much that nothing uses
    return _count(needed)


def equations(closed: core.ClosedJaxpr) -> int:
    """Equations of a program, those of inner programs included."""

    def inner(value):
        values = value if isinstance(value, list | tuple) else [value]
        return [v.jaxpr if isinstance(v, core.ClosedJaxpr) else v for v in values if isinstance(v, core.Jaxpr | core.ClosedJaxpr)]

    def count(jaxpr: core.Jaxpr) -> int:
        return sum(1 + sum(count(j) for value in equation.params.values() for j in inner(value)) for equation in jaxpr.eqns)

    return count(closed.jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        depth = prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2 * depth * equation.outvars[0].aval.size
    if name == "scan":
        return parameters["length"] * _count(parameters["jaxpr"].jaxpr)
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in parameters["branches"])
    if name == "custom_linear_solve":
        return _count(parameters["jaxprs"].solve.jaxpr)
    if name == "call_hi_primitive":  # since jax 0.12, of a function with rules of its own: the equation holds how to make its program
        function = parameters["_prim"]
        return flops(function.expand, *jax.tree.unflatten(function.in_tree, [v.aval for v in equation.invars]))
    inner = [value for value in parameters.values() if isinstance(value, core.Jaxpr | core.ClosedJaxpr)]
    if name in ("custom_jvp_call", "custom_vjp_call"):
        inner = inner[:1]
    if inner:
        return sum(_count(value.jaxpr if isinstance(value, core.ClosedJaxpr) else value) for value in inner)
    if name in ELEMENTWISE:
        return equation.outvars[0].aval.size
    if name in REDUCTIONS:
        return equation.invars[0].aval.size
    return 0
