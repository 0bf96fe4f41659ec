"""Rows beside the models: what no knowledge gets, and what the truth itself gets under the models' integrator."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bench.data import DataSet
from systems._system import System


class Floor(nnx.Module):
    """A row that is not trained: evaluated like a model, on the same states and starts."""

    chart = "qv"
    title = ""
    coarsened: ClassVar[bool] = False  # rolled out with longer steps too, and timed

    def __init__(self, system: System, data: DataSet):
        self.system = system

    @classmethod
    def applies(cls, system: System) -> bool:
        """Whether the system has this row."""
        return True

    def derivative(self, x, c):
        """ẋ at x = (q, v)."""
        raise NotImplementedError


class PredictZero(Floor):
    """ẋ = 0: everything stays as it is (persistence)."""

    title = "*predict zero*"

    def derivative(self, x, c):
        return jnp.zeros_like(x)


class BestConstant(Floor):
    """v̇ = α c with the best α: all that a model of a driven particle knows if it doesn't see the velocity."""

    title = "*best constant*"

    def __init__(self, system, data):
        super().__init__(system, data)
        _, rate, c = data.training.states()
        # min over α of Σ|α c − v̇| is the median of v̇/c with weights |c|
        driven = c != 0
        ratio, weight = rate[:, 1][driven] / c[driven], np.abs(c[driven])
        order = np.argsort(ratio)
        cumulative = weight[order].cumsum()
        self.alpha = float(ratio[order][np.searchsorted(cumulative, cumulative[-1] / 2)])

    @classmethod
    def applies(cls, system):
        return system.spec.context == system.spec.dof == 1

    def derivative(self, x, c):
        return jnp.stack([x[1], self.alpha * c])


class Truth(Floor):
    """The true field, rolled out by the models' integrator from the same starts: the integrator's own error."""

    title = "*truth, same integrator*"
    coarsened = True

    def derivative(self, x, c):
        return self.system.field(x, c)


class PerturbedTruth(Truth):
    """The same from starts that are wrong by one part in 10⁴: what a perfect model gets from imperfect measurements."""

    title = "*truth, start off by 1e-4*"
    coarsened = False

    def start(self, x):
        """z₀(1 + 10⁻⁴ ξ), ξ standard normal and the same for everyone."""
        return x * (1 + 1e-4 * jax.random.normal(jax.random.key(0), x.shape, x.dtype))


FLOORS = {"predict_zero": PredictZero, "best_constant": BestConstant, "truth": Truth, "truth_perturbed": PerturbedTruth}
