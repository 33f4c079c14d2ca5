"""Attacks keep their laws: inside the ball to the last bit, gradients of the loss, nothing that depends on a batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from probes.subjects import network, subject
from spikefed.errors import ConfigError
from spikefed.networks import ann_twin
from spikefed.neurons import ATan, Rectangle, Surrogate, Triangle
from spikefed.training import Preprocess
from spikefed.training.attacks import (
    Ball,
    Goal,
    Victim,
    apgd,
    fgsm,
    flip_spikes,
    neurons,
    noise,
    pgd,
    square,
    through,
)
from spikefed.training.attacks.apgd import checkpoints
from spikefed.training.attacks.bumps import Bumps, bump
from spikefed.training.attacks.draws import uniform
from spikefed.training.attacks.square import side
from spikefed.training.attacks.surrogates import Adaptive, scaled

EPS = 11.3  # no float32
CODINGS = ("direct", "bernoulli", "poisson", "latency")


def images(count: int = 8) -> Tensor:
    return subject(count).images.float()


def goal(count: int = 8) -> Goal:
    return Goal(range(count), subject(count).labels)


def victim(coding: str = "direct", **changes) -> Victim:
    mode = "signed" if coding == "poisson" else "unit"
    return Victim(network(coding=coding), Preprocess(mode), **{"seed": 4, "scale": 5.0, **changes})


ATTACKS = {
    "noise": noise,
    "fgsm": fgsm,
    "pgd": lambda v, b, g: pgd(v, b, g, steps=4),
    "apgd": lambda v, b, g: apgd(v, b, g, steps=7),
    "square": lambda v, b, g: square(v, b, g, queries=7),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("coding", CODINGS)
def test_every_image_is_in_the_ball_and_in_the_range_to_the_last_bit(name, coding):
    clean = images()
    found = ATTACKS[name](victim(coding, draws=2), Ball(clean, EPS), goal())
    assert found.min() >= 0 and found.max() <= 255
    assert (found.double() - clean.double()).abs().max() <= EPS
    assert not torch.equal(found, clean)


@pytest.mark.parametrize("name", ["noise", "fgsm", "pgd", "apgd"])
def test_l2_keeps_the_length_of_the_whole_image(name):
    clean = images()
    found = ATTACKS[name](victim(), Ball(clean, EPS, "l2"), goal())
    assert found.min() >= 0 and found.max() <= 255
    moved = (found.double() - clean.double()).flatten(1).norm(dim=1)
    assert moved.max() <= EPS and moved.max() > EPS / 2


@given(eps=st.floats(0, 255), pixel=st.floats(0, 255, width=32), step=st.floats(-300, 300, width=32))
@settings(max_examples=200, deadline=None)
def test_no_rounding_leaves_the_ball(eps, pixel, step):
    clean = torch.full((1, 1), pixel)
    for distance in ("linf", "l2"):
        held = Ball(clean, eps, distance).hold(clean + step)  # type: ignore[arg-type]
        assert abs(float(held.double()) - float(clean.double())) <= eps and 0 <= float(held) <= 255


@pytest.mark.parametrize("name", ATTACKS)
def test_eps_0_changes_nothing(name):
    assert torch.equal(ATTACKS[name](victim("bernoulli"), Ball(images(), 0.0), goal()), images())


@pytest.mark.parametrize("coding", CODINGS)
def test_fgsm_is_one_step_of_pgd_without_a_start(coding):
    v, ball = victim(coding), Ball(images(), EPS)
    assert torch.equal(fgsm(v, ball, goal()), pgd(v, ball, goal(), steps=1, size=EPS, start=False))


class Smooth(nn.Module):
    """A network whose loss has a derivative: no spike in it."""

    steps = 1

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.tanh(x.double().flatten(1) @ self.weight.T)[None]


@pytest.mark.parametrize("kind", ["ce", "margin"])
def test_the_gradient_is_that_of_the_loss(kind):
    v, x, g = Victim(Smooth(), Preprocess("standard", (120.0,), (60.0,)), loss=kind), images(), goal()
    loss, gradient, _ = v.ascent(x, g, 0)
    along = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    h = 0.05
    up, down = (v.ascent(x + sign * h * along, g, 0)[0] for sign in (1, -1))
    wanted = (up - down).double() / (2 * h)
    got = (gradient.double() * along).flatten(1).sum(dim=1)
    assert torch.allclose(got, wanted, rtol=2e-2, atol=1e-5) and loss.shape == (8,)


def test_expectation_over_one_draw_is_the_plain_gradient():
    v, x, g = victim("poisson"), images(), goal()
    one = v.but(draws=1).ascent(x, g, 3)
    leaf = x.clone().requires_grad_()
    drawn = uniform(v.seed, 0, g.images, 3, (v.net.steps, *x.shape[1:])).transpose(0, 1)
    spikes = replace(v.net.encoder, gradient="straight").spikes(v.preprocess(leaf), drawn)
    v.net.encoder = type("Fixed", (), {"encode": lambda *_: spikes})()
    scores = v.net(x).mean(0)
    loss = g.loss(scores * v.scale, "ce")
    plain = loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0], scores.detach()
    assert plain[1].any()
    for a, b in zip(plain, one, strict=True):  # the first layer's sums have another order
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()))


def test_several_draws_give_the_mean_of_their_gradients():
    v, x, g = victim("bernoulli"), images(), goal()
    both = v.but(draws=2).ascent(x, g, 0)[1]
    shape = (2, v.net.steps, *x.shape[1:])
    drawn = uniform(v.seed, 0, g.images, 0, shape)
    total = torch.zeros_like(x)
    for k in range(2):
        leaf = x.clone().requires_grad_()
        coder = replace(v.net.encoder, gradient="straight")
        v.net.encoder = type(
            "Fixed", (), {"encode": lambda self, y, steps, gen, k=k, c=coder: c.spikes(y, drawn[:, k].transpose(0, 1))}
        )()
        loss = g.loss(v.net(v.preprocess(leaf)).mean(0) * v.scale, "ce").sum()
        total += torch.autograd.grad(loss, leaf)[0]
        v.net.encoder = replace(coder, gradient="stop")
    assert torch.allclose(both, total / 2, atol=1e-6)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
def test_nothing_depends_on_the_size_of_a_batch(name, coding):
    v, x, labels = victim(coding, draws=2), images(), subject(8).labels
    whole = ATTACKS[name](v, Ball(x, EPS), goal())
    for rows in (slice(0, 3), slice(3, 8)):
        part = ATTACKS[name](v, Ball(x[rows], EPS), Goal(range(rows.start, rows.stop), labels[rows]))
        assert torch.equal(part, whole[rows])


def test_the_same_draws_or_fresh_ones():
    x, g = images(), goal()
    kept, fresh = victim("bernoulli", fresh=False), victim("bernoulli")
    assert torch.equal(kept.ascent(x, g, 0)[1], kept.ascent(x, g, 5)[1])
    assert not torch.equal(fresh.ascent(x, g, 0)[1], fresh.ascent(x, g, 5)[1])


def test_gradients_that_stop_at_the_sampler_move_nothing():
    for coding in ("bernoulli", "poisson", "latency"):
        v, ball = victim(coding, gradient="stop"), Ball(images(), EPS)
        assert torch.equal(fgsm(v, ball, goal()), ball.clean)


def test_the_network_is_left_as_it_was():
    v = victim("bernoulli", draws=3)
    coder, before = v.net.encoder, {k: t.clone() for k, t in v.net.state_dict().items()}
    state = torch.get_rng_state()
    for attack in ATTACKS.values():
        with through(v.net, "adaptive"):
            attack(v, Ball(images(), EPS), goal())
    assert v.net.encoder is coder and torch.equal(state, torch.get_rng_state())
    assert all(p.requires_grad and p.grad is None for p in v.net.parameters())
    assert all(torch.equal(before[k], t) for k, t in v.net.state_dict().items())
    assert all(isinstance(layer.neuron.surrogate, Triangle) for layer in v.net.layers)


def test_a_targeted_attack_makes_the_network_say_the_class():
    v, x = victim(), images()
    wanted = torch.full((8,), 2)
    before = (v.judged(x, range(8), 1)[0].argmax(1) == 2).sum()
    found = apgd(v, Ball(x, 60.0), Goal(range(8), wanted, targeted=True), steps=30)
    assert (v.judged(found, range(8), 1)[0].argmax(1) == 2).sum() > before


@pytest.mark.parametrize("steps", [10, 20, 100])
def test_apgd_looks_where_its_paper_does(steps):
    assert checkpoints(100)[:5] == [22, 41, 57, 70, 80]
    found = checkpoints(steps)
    assert found == sorted(set(found)) and found[-1] <= steps


def test_apgd_s_loss_is_never_below_the_clean_one():
    v, x, g = victim(), images(), goal()
    found = apgd(v, Ball(x, EPS), g, steps=10)
    before, after = (v.ascent(i, g, 0)[0] for i in (x, found))
    met = g.met(v.judged(x, range(8), 1)[0])
    assert (after >= before)[~met].all()


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_a_gradient_s_size_does_not_matter_in_l2(size):
    gradient = size * torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = Ball(torch.zeros(3, 1, 4, 4), 8.0, "l2").direction(gradient)
    assert torch.allclose(found.flatten(1).norm(dim=1), torch.ones(3))


def test_squares_shrink_as_in_the_paper():
    sides = [side(query, 10_000, 28, 28) for query in (1, 11, 60, 300, 600, 1_500, 3_000, 5_000, 7_000, 9_000)]
    assert sides == sorted(sides, reverse=True) and sides[0] == 25 and sides[-1] == 1


@pytest.mark.parametrize("flips", [0, 1, 7])
def test_spike_flips_keep_their_budget(flips):
    v = victim("poisson")
    scores, spent = flip_spikes(v, images(), goal(), flips=flips, count=3)
    assert scores.shape == (3, 8, 4) and spent.shape == (3, 8) and spent.max() <= flips
    if not flips:
        assert torch.equal(scores, v.judged(images(), range(8), 3))
    else:
        assert spent.sum() > 0


@pytest.mark.parametrize("shape", [Rectangle(0.8, 1.5), Triangle(0.3, 1.2), ATan(2.0)])
def test_a_wider_surrogate_keeps_its_peak_and_reaches_further(shape: Surrogate):
    wide = scaled(shape, 2.0)
    x = torch.linspace(-1, 1, 41)
    if isinstance(shape, ATan):
        assert torch.allclose(wide.grad(2 * x) * 2, shape.grad(x))
    else:
        assert torch.allclose(wide.grad(2 * x), shape.grad(x))


def test_every_surrogate_gives_other_gradients_and_the_same_spikes():
    v, x, g = victim(), images(), goal()
    found = {}
    for name in ("own", "narrow", "wide", "wider", "straight", "adaptive", "atan:alpha=3"):
        with through(v.net, name):
            _, gradient, scores = v.ascent(x, g, 0)
        found[name] = gradient
        assert torch.equal(scores, v.judged(x, range(8), 1)[0])
        assert gradient.any(), name
    assert len({float(gradient.abs().sum()) for gradient in found.values()}) == len(found)


def test_the_adaptive_surrogate_is_as_sharp_as_the_potential_is_near():
    shape = Adaptive(steps=1, omega=2.0)
    near, far = torch.tensor([[0.1]]), torch.tensor([[1.0]])
    assert float(Adaptive(steps=1, omega=2.0).grad(near)) > float(shape.grad(far)) > 0
    # The mean runs over the steps of the attack: (1 + 0.5) / 2.
    shape.grad(torch.tensor([[0.5]]))
    assert float(shape.memory["means"][0]) == pytest.approx(0.75)


def test_other_surrogates_need_neurons_of_this_package():
    twin = ann_twin("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=4)
    assert not neurons(twin)
    with pytest.raises(ConfigError, match="own"), through(twin, "wide"):
        pass


@pytest.mark.parametrize("eps", [-1.0, 256.0])
def test_an_eps_beyond_the_range_is_refused(eps):
    with pytest.raises(ConfigError, match="0 to 255"):
        Ball(images(), eps)


def test_a_network_without_a_gradient_is_refused():
    class Cut(Smooth):
        def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
            return super().forward(x.detach())

    v = Victim(Cut(), Preprocess())
    with pytest.raises(ConfigError, match="passes no gradient"):
        fgsm(v, Ball(images(), EPS), goal())


def test_spike_flips_need_a_coder_that_draws():
    with pytest.raises(ConfigError, match="bernoulli"):
        flip_spikes(victim(), images(), goal(), flips=3)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("distance", ["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_laws_hold_in_both_distances_targeted_or_not(name, distance, targeted):
    """In the ball and the range to the last bit, nothing at eps 0, nothing that depends on the size of a batch."""
    clean, attack = images(), ATTACKS[name]
    wanted = torch.full((8,), 2) if targeted else subject(8).labels
    v = victim("bernoulli", draws=2)
    eps = EPS if distance == "linf" else 10 * EPS
    whole = attack(v, Ball(clean, eps, distance), Goal(range(8), wanted, targeted))
    assert whole.min() >= 0 and whole.max() <= 255 and not torch.equal(whole, clean)
    assert Ball(clean, eps, distance).moved(whole).max() <= eps
    assert torch.equal(attack(v, Ball(clean, 0.0, distance), Goal(range(8), wanted, targeted)), clean)
    for rows in (slice(0, 3), slice(3, 8)):
        goal_ = Goal(range(rows.start, rows.stop), wanted[rows], targeted)
        assert torch.equal(attack(v, Ball(clean[rows], eps, distance), goal_), whole[rows])


@pytest.mark.parametrize("distance", ["linf", "l2"])
def test_queries_never_lower_the_margin_of_the_first(distance):
    v, x, g = victim(), images(), goal()
    ball = Ball(x, 60.0 if distance == "linf" else 300.0, distance)
    margins = [g.loss(v.scores(square(v, ball, g, queries=n), g.images, 0), "margin") for n in (1, 10, 60)]
    assert all((later >= margins[0]).all() for later in margins) and (margins[-1] > margins[0]).any()


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
def test_a_bump_is_two_opposite_ones_of_length_1(size):
    form = bump(size)
    assert form.shape == (size, size) and float(form.norm()) == pytest.approx(1.0)
    if size > 1:
        assert (form[: size // 2] > 0).any() and (form[: size // 2] >= 0).all() and (form[size // 2 :] <= 0).all()


def test_squares_in_l2_spend_the_budget_where_no_pixel_is_at_its_end():
    grey = torch.full((3, 2, 9, 7), 127.0)
    bumps = Bumps(0, Ball(grey, 40.0, "l2"), range(3))
    tried = bumps.first()
    for query in range(1, 5):
        assert torch.allclose(bumps._ball.moved(tried), torch.full((3,), 40.0, dtype=torch.float64), rtol=1e-5)
        tried = bumps.after(tried, query, 3)


BAD = {
    "images as bytes": (lambda: Ball(images().byte(), EPS), r"images\.float\(\)"),
    "no image": (lambda: Ball(images()[:0], EPS), "no image to attack"),
    "a label too few": (lambda: Goal(range(3), torch.zeros(2, dtype=torch.int64)), "one label for each"),
    "no draw": (lambda: victim("bernoulli", draws=0), "draws = 0"),
    "no step": (lambda: pgd(victim(), Ball(images(), EPS), goal(), steps=0), "steps = 0"),
    "no step of apgd": (lambda: apgd(victim(), Ball(images(), EPS), goal(), steps=0), "steps = 0"),
    "no query": (lambda: square(victim(), Ball(images(), EPS), goal(), queries=0), "queries = 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_attack_is_said_in_a_sentence(case):
    make, sentence = BAD[case]
    with pytest.raises(ConfigError, match=sentence):
        make()


@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
@pytest.mark.parametrize("label", [-1, 4])
@pytest.mark.parametrize("attack", ["fgsm", "square"])
def test_labels_that_are_no_class_are_said_in_a_sentence(coding, label, attack):
    wanted = Goal(range(8), torch.tensor([0] * 7 + [label]), targeted=True)
    with pytest.raises(ConfigError, match=f"target {label} is none of the network's classes; give 0 to 3"):
        ATTACKS[attack](victim(coding), Ball(images(), EPS), wanted)


@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
def test_images_of_another_size_are_said_in_a_sentence(coding):
    with pytest.raises(ConfigError, match="was built for images 1x8x8"):
        fgsm(victim(coding), Ball(torch.zeros(8, 1, 9, 9), EPS), goal())
