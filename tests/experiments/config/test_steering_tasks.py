import pytest

from experiments.config.check import load_config
from experiments.errors import UserError


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"name": "steering_extract", "layers": []}, r"layers: \[\], expected at least one value"),
        ({"name": "steering_extract", "layers": [1, 1]}, r"layers: \[1, 1\], expected at least one"),
        ({"name": "steering_choose", "alphas": []}, r"alphas: \[\], expected at least one"),
        ({"name": "steering_choose", "seeds": [1, 1]}, r"seeds: \[1, 1\], expected at least one"),
        ({"name": "steering_test", "seeds": []}, r"seeds: \[\], expected at least one"),
        ({"name": "steering_choose", "alphas": [0.0]}, "alphas"),
    ],
)
def test_refuses_a_list_that_names_nothing_or_something_twice(task: dict[str, object], said: str) -> None:
    chain = {
        "name": "chain",
        "model": {"name": "steering"},
        "data": {"name": "steering_pairs"},
        "stages": {"only": {"task": task}},
    }
    with pytest.raises(UserError, match=said):
        load_config(chain)
