"""Conversations as rows of tokens: the same loss packed and padded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from datamodules.chat_corpus import ChatDataModule
from datamodules.configs.chat_corpus import ChatConfig
from datamodules.configs.token_corpus import TokenizerConfig
from datamodules.info import TextInfo
from datamodules.text.chat_formats import FORMATS
from datamodules.tokenizers import tokenizer_from_dict
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.language_model import LanguageModel


def batches(
    path: Path, template: Any = "chatml", **settings: Any
) -> tuple[TextInfo, list[tuple[torch.Tensor, ...]]]:
    special = FORMATS[template].special_names
    config = ChatConfig(
        path=str(path),
        template=template,
        context_length=350,
        tokenizer=TokenizerConfig(kind="bpe", special_tokens=special),
        **settings,
    )
    data = ChatDataModule(config)
    return data.info, list(data.val_dataloader())


@pytest.mark.parametrize(
    ("template", "position"), [*((name, "rotary") for name in FORMATS), ("chatml", "learned")]
)
def test_packed_and_padded_rows_give_the_same_loss_per_token(
    chat_file: Path, template: str, position: str
) -> None:
    """Each token's loss is that of its conversation alone."""
    info, packed = batches(chat_file, template, packed=True, val_fraction=0.5)
    _, padded = batches(chat_file, template, packed=False, val_fraction=0.5)
    torch.manual_seed(0)
    config = LanguageModelConfig(depth=2, width=16, num_heads=2, position=position)
    module = LanguageModel(config, info).eval()
    with torch.inference_mode():
        losses = [
            torch.cat([module.evaluation_step(batch, 0, "val")["losses"] for batch in part])
            for part in (packed, padded)
        ]
    assert sum(len(batch[0]) for batch in packed) < sum(len(batch[0]) for batch in padded)
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    x, y, _ = padded[0]
    alone = module.network(x[:1, : int((y[0] != -100).nonzero().max()) + 1])
    expected = cross_entropy(alone[0], y[0, : alone.shape[1]], ignore_index=-100, reduction="none")
    counted = expected[expected != 0]
    torch.testing.assert_close(losses[0][: len(counted)], counted.detach(), rtol=1e-4, atol=1e-5)


def test_a_file_may_name_the_split_of_each_line(chat_file: Path) -> None:
    """The fractions then do nothing."""
    splits = ["test", "train", "validation"]
    lines = [json.loads(line) for line in chat_file.read_text().splitlines()]
    named = [{**line, "split": splits[number % 3]} for number, line in enumerate(lines)]
    (chat_file.parent / "named.jsonl").write_text("\n".join(map(json.dumps, named)))
    info, ((_, y, _), *_) = batches(
        chat_file.parent / "named.jsonl", packed=False, val_fraction=0.5, eval_batch_size=30
    )
    assert (info.train_size, info.val_size, info.test_size) == (10, 10, 10)
    answers = [line["messages"][1]["content"] for line in lines[2::3]]
    tokenizer = tokenizer_from_dict(info.tokenizer)
    shown = [tokenizer.decode(row[row != -100].tolist()) for row in y]
    assert shown == [f"{answer}<|im_end|>" for answer in answers]
    (chat_file.parent / "named.jsonl").write_text("\n".join(map(json.dumps, named[:2])))
    with pytest.raises(ValueError, match=r"named\.jsonl has no conversation of the split validation"):
        batches(chat_file.parent / "named.jsonl")


@pytest.mark.parametrize("template", FORMATS)
def test_only_the_assistants_tokens_are_targets(chat_file: Path, template: str) -> None:
    """The end of the turn belongs to them."""
    info, ((_, y, _), *_) = batches(chat_file, template, packed=False)
    tokenizer = tokenizer_from_dict(info.tokenizer)
    answer = "24! 24! 24! 24! "
    if template.startswith("llama3"):
        answer = answer.strip()
    end = FORMATS[template].ends["assistant"]
    assert tokenizer.decode(y[0][y[0] != -100].tolist()) == answer + end


def test_a_conversation_that_the_format_cannot_express_is_named(tmp_path: Path) -> None:
    """It keeps its line when the splits are sorted."""
    talk = [{"role": role, "content": "x"} for role in ("user", "assistant")]
    lines = [{"messages": talk, "split": split} for split in ("test", "train", "validation")]
    lines[1] = {"messages": talk[::-1], "split": "train"}
    (tmp_path / "chat.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match=r"chat\.jsonl, line 3: .* user and assistant take turns"):
        batches(tmp_path / "chat.jsonl", "mistral")
