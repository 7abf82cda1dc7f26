"""Losses of pretraining against closed forms and against plain loops."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from training.objectives.collapse import spread  # noqa: E402 - after the skip: they need torch
from training.objectives.contrast import at_points, info_nce, nt_xent  # noqa: E402
from training.objectives.distillation import distillation, moved_centre  # noqa: E402
from training.objectives.reconstruction import masked_error, measured_error  # noqa: E402
from training.objectives.redundancy import barlow_twins  # noqa: E402


@pytest.fixture
def views():
    """Return two views of five chips, seven axes each."""
    draws = torch.Generator().manual_seed(0)
    return torch.randn(5, 7, generator=draws), torch.randn(5, 7, generator=draws)


def test_nt_xent_is_the_sum_over_every_other_view(views):
    """A plain loop over anchors, partners and negatives gives the same number."""
    temperature = 0.5
    both = [each / each.norm() for each in torch.cat(views)]
    total = 0.0
    for anchor in range(10):
        partner = (anchor + 5) % 10
        others = [math.exp(float(both[anchor] @ both[k]) / temperature) for k in range(10) if k != anchor]
        total -= math.log(math.exp(float(both[anchor] @ both[partner]) / temperature) / sum(others))
    assert float(nt_xent(*views, temperature)) == pytest.approx(total / 10, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_of_orthogonal_chips_has_a_closed_form(temperature):
    """Equal views on orthogonal axes cost log(1 + 2 (B - 1) exp(-1 / t)); what is all the same costs log(2 B - 1)."""
    axes = torch.eye(4)
    expected = math.log(1 + 6 * math.exp(-1 / temperature))
    assert float(nt_xent(axes, 3 * axes, temperature)) == pytest.approx(expected, abs=1e-6)
    same = torch.ones(4, 4)
    assert float(nt_xent(same, same, temperature)) == pytest.approx(math.log(7), rel=1e-5)


def test_info_nce_between_orthogonal_modalities_has_a_closed_form():
    """Equal modalities on orthogonal axes cost log(1 + (B - 1) exp(-scale)), either way."""
    everyone = torch.ones(3, dtype=torch.bool)
    expected = math.log(1 + 2 * math.exp(-4))
    assert float(info_nce(torch.eye(3), torch.eye(3), 4.0, everyone)) == pytest.approx(expected, rel=1e-5)


def test_a_chip_without_a_modality_takes_no_part(views):
    """The loss is that of the other chips alone, and what the missing one holds gets no gradient."""
    first, second = (each.clone().requires_grad_() for each in views)
    present = torch.tensor([True, False, True, True, True])
    loss = info_nce(first, second, 2.0, present)
    there = present.nonzero()[:, 0]
    alone = info_nce(first[there], second[there], 2.0, torch.ones(4, dtype=torch.bool))
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)
    loss.backward()
    assert not first.grad[1].any()
    assert first.grad[0].any()


def test_one_chip_alone_cannot_be_contrasted(views):
    """With a single complete chip the loss is zero and still has a gradient to hand back."""
    first = views[0].clone().requires_grad_()
    loss = info_nce(first, views[1], 2.0, torch.tensor([True, False, False, False, False]))
    loss.backward()
    assert loss.item() == 0
    assert first.grad is not None
    assert not first.grad.any()


def test_barlow_twins_is_the_sum_over_the_correlation_matrix(views):
    """A plain loop over pairs of axes gives the same number."""
    first, second = ((each - each.mean(dim=0)) / each.std(dim=0, correction=0) for each in views)
    total = 0.0
    for i in range(7):
        for j in range(7):
            correlation = float((first[:, i] * second[:, j]).mean())
            total += (1 - correlation) ** 2 if i == j else 0.0051 * correlation**2
    assert float(barlow_twins(*views, 0.0051)) == pytest.approx(total, rel=1e-5)


def test_barlow_twins_knows_its_best_and_its_worst():
    """Equal views on independent axes cost nothing; the same axis twice costs 2 lambda; a constant axis costs one."""
    independent = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(barlow_twins(independent, 5 * independent + 1, 0.1)) == pytest.approx(0, abs=1e-6)
    twice = independent[:, :1].repeat(1, 2)
    assert float(barlow_twins(twice, twice, 0.1)) == pytest.approx(0.2, rel=1e-5)
    constant = torch.ones(4, 2)
    assert float(barlow_twins(constant, constant, 0.1)) == pytest.approx(2, rel=1e-5)


def test_only_hidden_and_measured_values_are_reconstructed():
    """An error of 2 in one hidden value of two costs 2; visible and unmeasured values may be anything."""
    truth = torch.zeros(1, 3, 2)
    said = torch.tensor([[[2.0, 0.0], [50.0, 50.0], [0.0, 70.0]]])
    measured = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
    hidden = torch.tensor([[1.0, 0.0, 1.0]])
    assert float(masked_error(said, truth, measured, hidden)) == pytest.approx(2)


def test_unknown_heights_cost_nothing():
    """The error is over known values, zero when none is known, and its gradient is never NaN."""
    said = torch.zeros(4, requires_grad=True)
    loss = measured_error(said, torch.tensor([3.0, math.nan, 1.0, math.nan]))
    loss.backward()
    assert loss.item() == pytest.approx(5)
    assert torch.isfinite(said.grad).all()
    assert measured_error(said, torch.full((4,), math.nan)).item() == 0


def test_distillation_leaves_out_the_very_same_view(views):
    """A plain loop over pairs of different views gives the same number; a third view is compared to both teachers."""
    centre = torch.linspace(-1, 1, 7)
    student = [*views, views[0] + views[1]]
    expected = []
    for number, taught in enumerate(views):
        target = torch.softmax((taught - centre) / 0.04, dim=1)
        for index, said in enumerate(student):
            if index != number:
                expected.append(float(-(target * torch.log(torch.softmax(said / 0.1, dim=1))).sum(dim=1).mean()))
    assert len(expected) == 4
    assert float(distillation(student, views, centre, (0.1, 0.04))) == pytest.approx(sum(expected) / 4, rel=1e-4)


def test_no_gradient_reaches_the_teacher(views):
    """Only the student learns."""
    student, teacher = ([each.clone().requires_grad_() for each in views] for _ in range(2))
    distillation(student, teacher, torch.zeros(7), (0.1, 0.04)).backward()
    assert all(each.grad is not None for each in student)
    assert all(each.grad is None for each in teacher)


def test_the_centre_follows_the_teacher():
    """A share stays, the rest is the mean over chips and views."""
    moved = moved_centre(torch.ones(2), [torch.zeros(3, 2), torch.full((3, 2), 4.0)], 0.9)
    torch.testing.assert_close(moved, torch.full((2,), 0.9 + 0.1 * 2))


def test_spread_tells_collapse_from_anything_else():
    """The same everywhere is 0, also up to length; directions drawn at random are near 1."""
    draws = torch.Generator().manual_seed(1)
    one = torch.randn(1, 64, generator=draws)
    assert spread(one * torch.rand(20, 1, generator=draws).add(0.5)) < 1e-3
    assert spread(torch.randn(500, 64, generator=draws)) == pytest.approx(1, abs=0.02)


def test_points_are_shares_of_the_view():
    """A map that holds its own rows and columns gives back where it was asked."""
    rows, cols = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    where = torch.tensor([[[0.25, 0.5], [0.5, 0.75]]])
    found = at_points(torch.stack([rows, cols])[None] / 8, where)
    torch.testing.assert_close(found, where)
