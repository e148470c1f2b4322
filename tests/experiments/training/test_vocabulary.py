import dataclasses
from pathlib import Path

import pytest

from datamodules.info import DataInfo, SequencePairInfo
from experiments.errors import UserError
from experiments.training.vocabulary import check_vocabulary


@pytest.mark.parametrize("kind", ["source_vocabulary", "target_vocabulary"])
def test_weights_of_other_sequences_are_refused(kind: str) -> None:
    same = SequencePairInfo(
        source_vocabulary=("a", "b"), target_vocabulary=("a", "b"), source_length=3, target_length=4
    )
    saved = {"info": same.to_dict()}
    check_vocabulary(saved, same, Path("x.ckpt"))
    check_vocabulary(saved, DataInfo(), Path("x.ckpt"))
    check_vocabulary({"info": {}}, same, Path("x.ckpt"))  # of a file from before there were sequences
    other = dataclasses.replace(same, **{kind: ("b", "a")})
    with pytest.raises(UserError, match=rf"the data's {kind} \(2 tokens\) differs from that of x\.ckpt"):
        check_vocabulary(saved, other, Path("x.ckpt"))
