import torch
from torch import nn

from lit_modules.optim.parameter_groups import parameter_groups, split_parameters


def test_only_maps_between_layers_decay() -> None:
    net = nn.ModuleDict(
        {
            "embedding": nn.Embedding(11, 6),
            "conv": nn.Conv1d(6, 6, 3),
            "norm": nn.LayerNorm((6, 5)),
            "batch_norm": nn.BatchNorm1d(6),
            "rnn": nn.GRU(5, 4),
            "head": nn.Linear(4, 3),
            "frozen": nn.Linear(3, 3).requires_grad_(False),
        }
    )
    decayed, undecayed = split_parameters(net)
    assert set(decayed) == {"conv.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "head.weight"}
    trainable = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert set(undecayed) == trainable - set(decayed)


def test_tied_embedding_does_not_decay_under_either_name() -> None:
    embedding, linear = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    linear.weight = embedding.weight
    for tied in (nn.Sequential(embedding, linear), nn.Sequential(linear, embedding)):
        decayed, undecayed = split_parameters(tied)
        assert not decayed
        assert list(undecayed.values()) == [embedding.weight]


def test_norms_of_other_libraries_count_as_norms() -> None:
    class SomeRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2, 2))

    class Child(SomeRMSNorm):
        pass

    decayed, undecayed = split_parameters(Child())
    assert not decayed
    assert set(undecayed) == {"gain"}


def test_empty_groups_are_left_out_and_options_reach_both() -> None:
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    assert parameter_groups({"weight": weight}, {}, 0.1, lr=0.5) == [
        {"params": [weight], "weight_decay": 0.1, "lr": 0.5}
    ]
    both = parameter_groups({"weight": weight}, {"bias": bias}, 0.1, lr=0.5)
    assert both[1] == {"params": [bias], "weight_decay": 0.0, "lr": 0.5}
