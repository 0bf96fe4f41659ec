"""SOAP is Adam in the eigenbasis of the factors of Shampoo."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import systems  # noqa: F401  (double precision)
from bench import soap, stacks


def run(gradient, W, steps: int, first: int = 0, state=None):
    """Weights after some steps of rate 1e-2, and the state."""
    rule = soap.scale_by_soap()
    state = rule.init(W) if state is None else state

    @jax.jit
    def one(carry, step):
        W, state = carry
        update, state = rule.update(gradient(W), state, W, step=step)
        return (jax.tree.map(lambda w, u: w - 1e-2 * u, W, update), state), None

    (W, state), _ = jax.lax.scan(one, (W, state), first + jnp.arange(steps))
    return W, state


def adam(gradient, W, steps: int):
    """The same of optax' Adam."""
    rule = optax.scale_by_adam(b1=soap.MEAN, b2=soap.SQUARE, eps=soap.TINY)
    state = rule.init(W)
    for _ in range(steps):
        update, state = rule.update(gradient(W), state)
        W = jax.tree.map(lambda w, u: w - 1e-2 * u, W, update)
    return W


KEYS = jax.random.split(jax.random.key(0), 4)


def test_before_the_bases_turn_it_is_adam():
    W = {"matrix": jax.random.normal(KEYS[0], (5, 3)), "vector": jax.random.normal(KEYS[1], (4,)), "number": jnp.array(2.0)}

    def gradient(W):
        return jax.tree.map(lambda w: w + jnp.sin(w), W)

    for ours, theirs in zip(jax.tree.leaves(run(gradient, W, soap.EVERY)[0]), jax.tree.leaves(adam(gradient, W, soap.EVERY)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_on_a_quadratic_it_is_adam_in_the_eigenbasis():
    """Gradients U D(t) Wᵀ with fixed U and W and a diagonal D: the factors have U and W as eigenvectors from the first step on. After the bases have
    turned into them, steps are those of Adam on D."""
    U, V = (jnp.linalg.qr(jax.random.normal(key, (4, 4)))[0] for key in KEYS[:2])
    D = jnp.array([4.0, 2.0, 1.0, 0.5])
    rule, W = soap.scale_by_soap(), jnp.zeros((4, 4))
    (state,) = rule.init(W)
    state = [state._replace(Q_L=U[None], Q_R=V[None])]
    plain, diagonal = optax.scale_by_adam(b1=soap.MEAN, b2=soap.SQUARE, eps=soap.TINY), jnp.zeros((4, 4))
    other = plain.init(diagonal)
    for step in range(25):  # beyond two turns, which leave exact eigenvectors where they are, but for signs
        size = jnp.diag(D * (1 + 0.1 * jnp.sin(step + jnp.arange(4.0))))
        update, state = rule.update(U @ size @ V.T, state, step=jnp.array(step))
        expected, other = plain.update(size, other)
        np.testing.assert_allclose(jnp.diag(U.T @ update @ V), jnp.diag(expected), rtol=1e-6)
        off = U.T @ update @ V - jnp.diag(jnp.diag(U.T @ update @ V))
        assert jnp.abs(off).max() < 0.3 * jnp.abs(jnp.diag(expected)).min()


def farthest(gradients) -> float:
    """The largest entry of the steps that a row of gradients gives in a basis that stands still."""
    state = soap.State(*(jnp.zeros((1, 1, 1)) for _ in range(4)), jnp.ones((1, 1, 1)), jnp.ones((1, 1, 1)))
    largest = 0.0
    for step, g in enumerate(gradients):
        move, state = soap._move(jnp.full((1, 1, 1), g), soap._remember(jnp.full((1, 1, 1), g), state), step + 1.0)
        largest = max(largest, abs(float(move[0, 0, 0])))
    return largest


def test_in_a_basis_that_stands_still_no_step_is_cut(monkeypatch):
    """Gradients that grow as (β₂/β₁)ᵗ are those for which the inequality is an equality."""
    ratio = soap.SQUARE / soap.MEAN
    growing = [ratio ** (step - 800) for step in range(800)]
    random = list(np.random.default_rng(0).standard_normal(200) ** 3)
    cut = farthest(growing), farthest(random)
    bound = soap.FARTHEST
    monkeypatch.setattr(soap, "FARTHEST", 1e9)
    assert (farthest(growing), farthest(random)) == cut
    assert cut[0] == pytest.approx(bound, rel=1e-2)
    assert cut[1] < bound


def test_a_basis_that_turns_into_a_direction_never_seen_makes_no_large_step():
    """V is as good as nothing there, and M is not: without the bound the step would be some ten thousand times Adam's."""
    state = soap.scale_by_soap().init(jnp.zeros((2, 2)))[0]
    M, V = jnp.array([[[1e3, 1e-3], [0.0, 0.0]]]), jnp.array([[[1e6, 1e-14], [1e-14, 1e-14]]])
    move, _ = soap._move(jnp.zeros((1, 2, 2)), state._replace(M=M, V=V), 1000.0)
    assert jnp.abs(move).max() == pytest.approx(soap.FARTHEST)


def test_the_bases_become_eigenvectors_of_the_factors_in_falling_order():
    target = jax.random.normal(KEYS[2], (6, 4)) * jnp.array([8.0, 4.0, 2.0, 1.0])
    scale = jnp.array([1.0, 3.0, 9.0, 27.0])

    def gradient(W):  # stays large, so that the factors keep one direction
        return target + 0.01 * jnp.sin(W * scale)

    _, (state,) = run(gradient, jnp.zeros((6, 4)), 2000)
    for F, Q in ((state.L[0], state.Q_L[0]), (state.R[0], state.Q_R[0])):
        seen = Q.T @ F @ Q
        np.testing.assert_allclose(Q.T @ Q, jnp.eye(len(Q)), atol=1e-12)
        assert jnp.abs(seen - jnp.diag(jnp.diag(seen))).max() < 1e-3 * seen.max()
        assert (jnp.diff(jnp.diag(seen)) <= 1e-6 * seen.max()).all()


def test_resumed_in_the_middle_it_gives_the_same_bits():
    def gradient(W):
        return jax.tree.map(lambda w: w - jnp.cos(3 * w), W)

    W = [jax.random.normal(KEYS[0], (5, 3)), jax.random.normal(KEYS[1], (5, 3)), jax.random.normal(KEYS[2], (7,))]
    whole, _ = run(gradient, W, 37)
    half, state = run(gradient, W, 18)
    resumed, _ = run(gradient, half, 19, first=18, state=state)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_leaf_does_not_see_the_others_of_its_shape():
    W = [jax.random.normal(key, (5, 3)) for key in KEYS[:3]]

    def gradient(W):
        return [w + i for i, w in enumerate(W)]

    together, _ = run(gradient, W, 30)
    for i, alone in enumerate(run(lambda W, i=i: [W[0] + i], [W[i]], 30)[0][0] for i in range(3)):
        np.testing.assert_allclose(together[i], alone, rtol=1e-6)


def test_thin_leaves_that_share_a_stack_do_not_see_each_other(monkeypatch):
    """A first layer, a last one, a vector and others: filled up with zeros to one size, or each alone.

    Bases turn when every factor has full rank, by gradients that differ much: of a null space they would be whatever rounding makes of it.
    """
    monkeypatch.setattr(soap, "EVERY", 25)
    W = [jax.random.normal(key, shape) for key, shape in zip(KEYS, [(3, 17), (16, 2), (9,), (2, 2, 5)], strict=True)]

    def gradients(W, first=0):
        return [w + jnp.sin((first + i + 40) * w) for i, w in enumerate(W)]

    assert len(stacks.stack(W)) == 1
    together, _ = run(gradients, W, 60)
    for i, w in enumerate(W):
        ((alone,), _) = run(lambda W, i=i: gradients(W, i), [w], 60)
        np.testing.assert_allclose(together[i], alone, rtol=1e-6)


def test_stacks_are_decomposed_one_after_the_other():
    """What is not a number in one stack reaches all later ones, and none before: two at once could wait for each other for ever."""
    whole = jnp.eye(3) + jax.random.normal(KEYS[0], (2, 3, 3))
    broken = whole.at[0, 0, 0].set(jnp.nan)
    found = jax.jit(lambda *matrices: stacks.orthogonal(matrices))(whole, broken, whole[:1], whole)
    assert [bool(jnp.isfinite(Q).all()) for Q in found] == [True, False, False, False]
    for Q, M in zip(stacks.orthogonal([whole, whole[:1]]), (whole, whole[:1]), strict=True):
        np.testing.assert_array_equal(Q, jnp.linalg.qr(M)[0])


def test_what_is_stacked_comes_back():
    shapes = [(5, 3), (3, 5), (4, 4), (4, 4), (2, 3, 4), (), (7,), (1, 30), (30, 2)]
    tree = {str(shape) + str(i): jnp.arange(np.prod(shape, dtype=int)).reshape(shape) + 100.0 * i for i, shape in enumerate(shapes)}
    made = stacks.stack(tree)
    assert sorted(stack.shape for stack in made) == [(1, 1, 1), (2, 3, 5), (2, 4, 4), (4, 2, 30)]
    back = stacks.unstack(made, tree)
    assert back.keys() == tree.keys()
    for name, leaf in tree.items():
        np.testing.assert_array_equal(back[name], leaf)


def test_a_gradient_of_zeros_moves_nothing_and_makes_no_nan():
    W, (state,) = run(jnp.zeros_like, jnp.ones((4, 3)), 25)
    np.testing.assert_array_equal(W, jnp.ones((4, 3)))
    assert all(jnp.isfinite(leaf).all() for leaf in state)


def test_it_wants_the_step_of_the_loop():
    rule = soap.scale_by_soap()
    with pytest.raises(TypeError, match="step"):
        rule.update(jnp.ones((2, 2)), rule.init(jnp.ones((2, 2))))
