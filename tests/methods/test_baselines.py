"""What each pixel-level method does that no other does."""

from __future__ import annotations

import pytest
import torch
from method_data import drop_unlabelled, make, make_batch, make_config, train

# --- warm-up ---

LATE = ["cps", "fixmatch", "u2pl", "unimatch", "unimatch_v2"]


@pytest.mark.parametrize("name", LATE)
def test_in_the_warm_up_a_batch_is_as_good_as_one_without_unlabelled_images(name: str) -> None:
    method, other = (make(f"baselines/{name}", {"warm_up": 0.5}) for _ in range(2))
    batch = make_batch(method)
    assert method(batch, 0.49) == other(drop_unlabelled(batch), 0.49)


@pytest.mark.parametrize("name", LATE)
def test_unlabelled_losses_begin_with_the_end_of_the_warm_up(name: str) -> None:
    method = make(f"baselines/{name}", {"warm_up": 0.5})
    losses = method(make_batch(method), 0.5)
    assert all(value > 0 for value in losses.values())


@pytest.mark.parametrize(
    ("method", "views"), [("fixmatch", 0), ("mean_teacher", 2), ("unimatch", 1), ("unimatch_v2", 1), ("u2pl", 0)]
)
def test_a_method_refuses_another_number_of_views(method: str, views: int) -> None:
    with pytest.raises(ValueError, match=r"views\.strong"):
        make_config(f"baselines/{method}", {"views.strong": views})


# --- fixmatch, mean teacher, unimatch ---


BELOW = [("fixmatch", ["strong"]), ("unimatch", ["strong", "features"]), ("unimatch_v2", ["strong"])]


@pytest.mark.parametrize(("method", "names"), BELOW)
def test_pseudo_labels_that_are_all_below_the_threshold_give_a_loss_of_zero(method: str, names: list[str]) -> None:
    made = make(f"baselines/{method}", {"threshold": 1.0})
    losses = made(make_batch(made), 0.5)
    assert all(losses[name] == 0 for name in names)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("method", ["mean_teacher", "u2pl", "unimatch_v2"])
def test_the_scored_network_is_the_one_the_config_names(method: str) -> None:
    image = torch.rand(1, 3, 32, 32)
    scores = []
    for who in ("student", "teacher"):
        made = make(f"baselines/{method}", {"predict": who})
        train(made, 3, [make_batch(made)])
        assert who in next(name for name, part in made.named_modules() if part is made.deployed())
        scores.append(made.eval().predict(image))
    assert not torch.equal(*scores)
