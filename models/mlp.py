"""Step map: a perceptron that predicts the next frame."""

import jax
import jax.numpy as jnp

from models import Local, Model, Settings, Shape


class MLP(Model):
    r"""x_{t+Δ} = x_t + Δ σ f_θ(x_t, c), Δ one frame, σ the spread of ẋ

    Knows neither time nor mechanics; asked at another interval it has nothing to say. Trained on pairs of successive frames.
    Source: the "neural network" of Cranmer et al. 2020, Table 1.

    Note: a map over one frame. It has no derivative, so no field or acceleration error, and nothing in it knows of energy.
    """

    signals = ("own", "frames")  # which are the same
    own_signal = "frames"
    settings = Settings(learning_rate=2e-2, muon_rate=2e-2)
    paper = Settings(shape=Shape(width=500, ring_width=500), normalise=False)

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.network = Local(spec, scales, 2 * spec.dof, settings.shape, rngs=rngs)

    @classmethod
    def span(cls, segment, signal="own"):
        return 2

    def change(self, x, c):
        """x_{t+Δ} − x_t, which one frame brings."""
        change = self.network.everywhere(x[0], x[1], c)  # [sites, 2·dof]
        change = change.reshape(-1, 2, self.spec.dof).swapaxes(0, 1).reshape(2, -1)
        return self.scales.frame * self.rate_scale(x) * change

    def step(self, x, c):
        """The state one frame later."""
        return x + self.change(x, c)

    def loss(self, batch, progress):
        """Mean |x̂ − x| one frame ahead, in units of the spread of the change that a frame brings."""
        before, after = batch.x[:, :-1], batch.x[:, 1:]
        predicted = jax.vmap(jax.vmap(self.step, (0, None)))(before, batch.c)
        return jnp.abs((predicted - after) / (self.scales.frame * self.rate_scale(before))).mean()


MODEL = MLP
