"""Second-order ODE: velocity is known to be the derivative of position; the acceleration is free."""

import jax.numpy as jnp

from models import Local, Settings, Shape, VectorField


class SecondOrderODE(VectorField):
    r"""q̇ = v,   v̇ = σ f_θ(q, v, c), σ the spread of v̇

    Source: the baseline that Cranmer et al. 2020 trained (their text calls it a neural network); Gruver et al. 2022 show that this alone
    explains much of what Hamiltonian networks gain.

    Note: nothing in it conserves energy, so that its small errors add up over a long rollout.
    """

    settings = Settings(learning_rate=1e-2)
    paper = Settings(shape=Shape(width=500, ring_width=500), normalise=False)

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.network = Local(spec, scales, spec.dof, settings.shape, rngs=rngs)

    def derivative(self, x, c):
        acceleration = self.network.everywhere(x[0], x[1], c).reshape(-1)
        return jnp.stack([x[1], self.rate_scale(x)[1] * acceleration])


MODEL = SecondOrderODE
