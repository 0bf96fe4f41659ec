"""What a learnt energy or Lagrangian is made of: a free network, and a quadratic form and a potential beside it that restrict nothing."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from specimens import compiled

import models
import systems
from bench import train
from bench.presets import PRESETS
from models import EnergySettings, EnergyTerms, Scalar, Scales, Shape
from systems import Spec

PENDULUM = Spec(dof=2, angles=(True, True))
SCALES = Scales(q=(1.0, 2.0), v=(1.5, 2.5), rate=(3.0, 4.0), c=(), frame=0.1)
NO_CONTEXT = jnp.zeros(0)


def made(model: str, spec=PENDULUM, scales=SCALES, **changes):
    """An untrained model, in double precision."""
    kind = models.get(model)
    learner = train.initial(kind, spec, replace(kind.settings, **changes), scales, 0)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), learner)


def with_last(layer, rows):
    """Sets all weights of a last layer to zero, and its biases."""
    layer[...] = jnp.zeros_like(layer[...]).at[-1].set(jnp.array(rows, layer[...].dtype))


def states(count: int):
    """Angles anywhere, velocities within 1.5 spreads."""
    draw = np.random.default_rng(0)
    return draw.uniform(-np.pi, np.pi, (count, 2)), np.array(SCALES.v) * draw.uniform(-1.5, 1.5, (count, 2))


def test_the_quadratic_form_is_the_mass_matrix_where_nothing_else_is_there():
    """M of any sign: nothing keeps it positive."""
    lnn = made("lnn", positive_start=False)
    with_last(lnn.terms.free.layers[-1], [0.0] * 9)
    with_last(lnn.terms.head.layers[-1], [-2.0, 0.3, 1.0, 0.7])
    q, v = (a[0] for a in states(1))
    M = np.array([[-2.0, 0.3], [0.3, 1.0]])
    u = v / np.array(SCALES.v)
    np.testing.assert_allclose(lnn.mass_matrix(jnp.array([q, v]), NO_CONTEXT), M, rtol=1e-9)
    np.testing.assert_allclose(lnn.lagrangian(q, v, NO_CONTEXT), 0.5 * u @ M @ u - 0.7, rtol=1e-9)
    np.testing.assert_allclose(lnn.energy(jnp.array([q, v]), NO_CONTEXT), 0.5 * u @ M @ u + 0.7, rtol=1e-9)


def test_an_hnn_adds_its_potential_and_an_lnn_takes_it_away():
    hnn = made("hnn")
    with_last(hnn.terms.free.layers[-1], [0.0] * 9)
    with_last(hnn.terms.head.layers[-1], [2.0, 0.0, 1.0, 0.7])
    q, p = (a[0] for a in states(1))
    u = p / np.array(SCALES.v)
    np.testing.assert_allclose(hnn.energy(jnp.array([q, p]), NO_CONTEXT), hnn.unit * (u[0] ** 2 + 0.5 * u[1] ** 2 + 0.7), rtol=1e-9)


@pytest.mark.parametrize("products", [0, 8])
def test_squares_of_outputs_enter_with_signs_in_turn(products):
    network = Scalar(PENDULUM, SCALES, Shape(width=8), rngs=models._networks.nnx.Rngs(params=0), products=products)
    outputs = np.arange(1.0, products + 2)
    with_last(network.layers[-1], outputs)
    expected = outputs[0] + sum((-1.0) ** k * y**2 for k, y in enumerate(outputs[1:]))
    q, v = (jnp.float32(a[0]) for a in states(1))
    assert float(network(q, v, NO_CONTEXT)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("spec", "size"), [(PENDULUM, 0.3), (Spec(dof=1, lattice=True), 0.1 * 2**0.5)])
def test_squares_begin_larger_than_a_plain_output_where_there_is_no_lattice(spec, size):
    scales = SCALES if spec is PENDULUM else Scales(q=(1.0,), v=(1.0,), rate=(1.0,), c=(), frame=0.1)
    network = Scalar(spec, scales, Shape(width=400, ring_width=400), rngs=models._networks.nnx.Rngs(params=0), products=8)
    first = np.asarray(network.layers[-1][...])[:-1]
    assert first[:, 1:].std() == pytest.approx(size / 20, rel=0.05)
    assert first[:, 0].std() == pytest.approx(0.1 * 2**0.5 / 20, rel=0.1)


def test_the_free_network_can_cancel_all_the_rest_so_that_nothing_is_restricted():
    """N = −(½‖u‖² + ½ uᵀMu − V), fitted by its last layer alone, leaves nothing of L: what L was meant to be can then be added to N."""
    lnn = made("lnn", shape=Shape(width=400, depth=2), products=0)
    last = lnn.terms.free.layers[-1]
    lnn.terms.head.layers[-1][...] *= 10  # of order one
    q, v = states(4000)
    last[...] = jnp.zeros_like(last[...])
    everywhere = compiled(jax.vmap(lambda q, v: lnn.lagrangian(q, v, NO_CONTEXT)))
    rest = np.asarray(everywhere(q, v))

    def hidden(q, v):  # features of the last layer, read off it one by one
        return jax.jacfwd(lambda w: Probe(lnn.terms.free, w)(q, v, NO_CONTEXT))(jnp.zeros(last.shape))[:, 0]

    features = np.asarray(compiled(jax.vmap(hidden))(q, v))
    weights = np.linalg.lstsq(features[:3000], -rest[:3000], rcond=1e-10)[0]
    error = features[3000:] @ weights + rest[3000:]
    assert np.abs(error).mean() < 0.03 * np.abs(rest - rest.mean()).mean()


class Probe:
    """A scalar network with other weights in its last layer."""

    def __init__(self, network, last):
        self.network, self.last = network, last

    def __call__(self, q, v, c):
        x = self.network.features(q, v, c)
        for W in (layer[...] for layer in list(self.network.layers)[:-1]):
            x = models._networks.ACTIVATIONS[self.network.activation](x @ W[:-1] + W[-1])
        return (x @ self.last[:-1] + self.last[-1])[0]


def test_on_a_ring_the_free_network_is_all_there_is():
    spec, scales = Spec(dof=1, lattice=True), Scales(q=(1.0,), v=(1.0,), rate=(1.0,), c=(), frame=0.1)
    for name in ("lnn", "hnn", "hnn_naive"):
        assert made(name, spec, scales).terms.head is None
    terms = EnergyTerms(spec, scales, Shape(ring_width=8), Shape(), 2, rngs=models._networks.nnx.Rngs(params=0))
    assert terms(jnp.zeros(3), jnp.zeros(3), NO_CONTEXT)[1:] == (0.0, 0.0)


@pytest.mark.parametrize("name", models.names())
def test_nothing_but_weights_and_biases_is_trained(name):
    """An array that is an attribute of a module is trained unasked: constants must be none."""
    learner = made(name)
    layers = [leaf.shape for path, leaf in jax.tree.leaves_with_path(learner) if "layers" in jax.tree_util.keystr(path)]
    assert train.parameters(learner) == sum(n * m for n, m in layers)


@pytest.mark.parametrize("system", PRESETS["laptop"].systems)
@pytest.mark.parametrize("name", PRESETS["laptop"].models)
def test_all_models_have_about_as_many_parameters(name, system):
    spec = systems.get(system).spec
    ones = (1.0,) * spec.dof
    learner = made(name, spec, Scales(q=ones, v=ones, rate=ones, c=(1.0,) * spec.context, frame=0.1))
    assert train.parameters(learner) == pytest.approx(8800, rel=0.15)


def test_plain_networks_have_neither():
    for name in ("lnn", "hnn", "hnn_naive"):
        plain = models.get(name).settings_called("plain")
        assert isinstance(plain, EnergySettings)
        assert (plain.head, plain.products, plain.shape.width) == (None, 0, 64)
