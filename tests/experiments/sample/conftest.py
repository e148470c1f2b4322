"""A model that says a script, for tests of what is shown."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.language_models.loaded_model import LoadedModel


class Place:
    """Where in the script each row stands."""

    def __init__(self) -> None:
        self.at: Tensor | None = None

    def reorder(self, rows: Tensor) -> None:
        assert self.at is not None
        self.at = self.at[rows]


class Scripted(nn.Module):
    """Says the bytes of one text after the other's; each row starts at the place its prompt names."""

    vocab_size = 256

    def __init__(self, script: bytes) -> None:
        super().__init__()
        self.script = nn.Parameter(torch.tensor(list(script)).float(), requires_grad=False)

    def make_cache(self, capacity: int) -> list[Place]:
        return [Place()]

    def forward(
        self, tokens: Tensor, *, key_mask: Any = None, cache: Any = None, last_only: bool = False
    ) -> Tensor:
        if cache[0].at is None:
            cache[0].at = tokens[:, -1]
        else:
            cache[0].at = cache[0].at + 1
        next_bytes = self.script[cache[0].at % len(self.script)].long()
        return nn.functional.one_hot(next_bytes, 256).float().unsqueeze(1)


@pytest.fixture
def scripted() -> Callable[..., LoadedModel]:
    """Return a function from a script to a model that says it."""

    def build(text: str, **more: Any) -> LoadedModel:
        tokenizer = SimpleNamespace(
            vocab_size=256, token_bytes=lambda id: bytes([id]), encode=lambda text: list(text.encode())
        )
        network = Scripted(text.encode())
        return LoadedModel(name="scripted", network=network, tokenizer=tokenizer, context_length=None, **more)

    return build
