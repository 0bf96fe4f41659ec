"""Neural ODE: a free field, trained through the solver."""

from models import Local, Settings, Shape, VectorField


class NeuralODE(VectorField):
    r"""ẋ = σ f_θ(x, c), σ the spread of ẋ; both q̇ and v̇ are learnt

    Trained on short rollouts, the frames of a segment, by differentiating through the solver (`VectorField.rollout_loss`): it sees states and
    never a derivative. Source: Chen et al. 2018.

    Note: learns from rollouts over a segment of frames, never from derivatives, and has to learn q̇ = v too: other information than the others get.
    """

    own_signal = "frames"
    settings = Settings()
    paper = Settings(shape=Shape(width=500, ring_width=500), normalise=False)

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.network = Local(spec, scales, 2 * spec.dof, settings.shape, rngs=rngs)

    def derivative(self, x, c):
        rate = self.network.everywhere(x[0], x[1], c)  # [sites, 2·dof]
        return self.rate_scale(x) * rate.reshape(-1, 2, self.spec.dof).swapaxes(0, 1).reshape(2, -1)


MODEL = NeuralODE
