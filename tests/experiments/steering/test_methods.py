import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from torch import Tensor

from experiments.errors import UserError
from experiments.steering import methods
from experiments.steering.methods import (
    METHODS,
    FittedMethods,
    Pairs,
    derangement,
    fit_ridge,
    group_means,
)

NAMES = ["skin", "heart", "tenancy", "as_it_is"]
FAMILIES = {"skin": "medical", "heart": "medical", "tenancy": "legal", "as_it_is": "neutral"}
WIDTH = 6


def pairs(per_name: int, seed: int) -> Pairs:
    """Hidden states around a centre for each name; vectors that lie mostly along the name's own direction."""
    generator = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(4).repeat_interleave(per_name)
    h = centres[labels] + torch.randn(len(labels), WIDTH, generator=generator)
    z = centres.roll(1, 1)[labels] + 0.3 * torch.randn(len(labels), WIDTH, generator=generator)
    z[labels == 3] = 0
    names = [NAMES[label] for label in labels]
    return Pairs(h=h, z=z, instantiations=names, families=[FAMILIES[name] for name in names])


def learned(h: Tensor) -> Tensor:
    return 2 * h


@pytest.fixture(name="train")
def _train() -> Pairs:
    return pairs(30, 0)


@pytest.fixture(name="asked")
def _asked() -> Pairs:
    return pairs(5, 1)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_every_prompt_a_vector(method: str, train: Pairs, asked: Pairs) -> None:
    made = FittedMethods(train).vectors(method, asked, learned=learned)
    assert made.shape == asked.z.shape
    assert made.dtype == asked.z.dtype
    torch.testing.assert_close(made, FittedMethods(train).vectors(method, asked, learned=learned))


def test_only_the_oracles_look_at_the_answers(train: Pairs, asked: Pairs) -> None:
    blind = Pairs(
        h=asked.h,
        z=torch.randn_like(asked.z),
        instantiations=["skin"] * len(asked),
        families=["medical"] * len(asked),
    )
    for method in METHODS:
        made = [FittedMethods(train).vectors(method, some, learned=learned) for some in (asked, blind)]
        assert torch.equal(*made) == (method not in ("instantiation_mean", "p2s")), method


def test_the_mean_is_over_prompts_that_are_steered(train: Pairs, asked: Pairs) -> None:
    mean = train.z[:90].mean(0)
    torch.testing.assert_close(FittedMethods(train).vectors("mean", asked, learned=learned)[3], mean)
    rescaled = FittedMethods(train).vectors("mean_rescaled", asked, learned=learned)[3]
    torch.testing.assert_close(rescaled.norm(), train.z[:90].norm(dim=1).mean())
    torch.testing.assert_close(rescaled / rescaled.norm(), mean / mean.norm())


def test_random_vectors_have_the_learned_ones_lengths(train: Pairs, asked: Pairs) -> None:
    made = FittedMethods(train).vectors("random", asked, learned=learned)
    torch.testing.assert_close(made.norm(dim=1), 2 * asked.h.norm(dim=1))
    assert not torch.equal(made, FittedMethods(train).vectors("random", asked, learned=learned, seed=1))


def test_the_router_knows_families_and_leaves_neutral_prompts_alone(train: Pairs, asked: Pairs) -> None:
    made = FittedMethods(train).vectors("router", asked, learned=learned)
    torch.testing.assert_close(made[0], train.z[:60].mean(0))  # skin and heart alike
    torch.testing.assert_close(made[7], made[0])
    torch.testing.assert_close(made[12], train.z[60:90].mean(0))
    assert not made[15:].any()


def test_the_fine_router_tells_members_of_a_family_apart(train: Pairs, asked: Pairs) -> None:
    made = FittedMethods(train).vectors("fine_router", asked, learned=learned)
    torch.testing.assert_close(made[0], train.z[:30].mean(0))
    torch.testing.assert_close(made[7], train.z[30:60].mean(0))
    assert not made[15:].any()


def test_shuffled_vectors_are_other_prompts(train: Pairs, asked: Pairs) -> None:
    made = FittedMethods(train).vectors("l2s_shuffled", asked, learned=learned)
    assert not (made == learned(asked.h)).all(1).any()
    torch.testing.assert_close(made.sort(0).values, learned(asked.h).sort(0).values)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_nothing_keeps_its_place_in_a_derangement(count: int) -> None:
    for seed in range(20):
        order = derangement(count, torch.Generator().manual_seed(seed))
        assert sorted(order.tolist()) == list(range(count))
        assert not (order == torch.arange(count)).any()


def test_oracles(train: Pairs, asked: Pairs) -> None:
    assert torch.equal(FittedMethods(train).vectors("p2s", asked, learned=learned), asked.z)
    made = FittedMethods(train).vectors("instantiation_mean", asked, learned=learned)
    torch.testing.assert_close(made[5], train.z[30:60].mean(0))
    torch.testing.assert_close(group_means(train.z, train.instantiations, ["heart"])[0], made[5])


@pytest.mark.slow
def test_ridge_is_scikit_learns_at_the_penalty_it_chose(train: Pairs, asked: Pairs) -> None:
    made = fit_ridge(train)(asked.h)
    mean, std = train.h.mean(0), train.h.std(0)
    x, y = ((train.h - mean) / std).double().numpy(), train.z.double().numpy()
    rows = ((asked.h - mean) / std).double().numpy()
    fits = {
        p: torch.from_numpy(Ridge(alpha=p).fit(x, y).predict(rows))
        for p in torch.logspace(-2, 6, 17).tolist()
    }
    distances = {p: (fit - made).abs().max().item() for p, fit in fits.items()}
    chosen = min(distances, key=lambda p: distances[p])
    assert distances[chosen] < 1e-3
    scores = {
        p: cross_val_score(Ridge(alpha=p), x, y, cv=len(x), scoring="neg_mean_squared_error").mean()
        for p in fits
    }
    assert scores[chosen] > 1.02 * max(scores.values())  # both negative: within 2 % of the best


def test_each_method_is_fitted_once(train: Pairs, asked: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    monkeypatch.setattr(methods, "fit_ridge", lambda pairs: fits.append(pairs) or fit_ridge(pairs))
    fitted = FittedMethods(train)
    for _ in range(2):
        fitted.vectors("ridge", asked, learned=learned)
    assert fits == [train]


def test_an_unknown_method_is_refused(train: Pairs, asked: Pairs) -> None:
    with pytest.raises(UserError, match="unknown steering method 'magic'; choose from none, prompting"):
        FittedMethods(train).vectors("magic", asked, learned=learned)
