"""Settings of splits: every data set refuses shares and folds that leave no training data."""

import pytest

from datamodules.configs.image_folder import ImageFolderConfig
from datamodules.configs.pairs import PairsConfig
from datamodules.configs.pronunciation import PronunciationConfig
from datamodules.configs.split import OwnFilesConfig, SplitConfig
from datamodules.configs.table import TableConfig
from datamodules.configs.token_corpus import TextConfig

OWN_FILES = (ImageFolderConfig, PairsConfig, TextConfig)


@pytest.mark.parametrize("schema", [*OWN_FILES, PronunciationConfig, TableConfig])
def test_training_data_must_be_left(schema: type[SplitConfig]) -> None:
    with pytest.raises(ValueError, match=r"val_fraction 0\.5 and test_fraction 0\.5 leave no training data"):
        schema(path="x", val_fraction=0.5, test_fraction=0.5)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"val_fraction 0\.6 and test_fraction 0\.5 leave no training data"):
        schema(path="x", val_fraction=0.6, folds=2)  # type: ignore[call-arg]


@pytest.mark.parametrize("schema", OWN_FILES)
def test_a_fold_or_a_file_is_the_test_split(schema: type[OwnFilesConfig]) -> None:
    with pytest.raises(ValueError, match="a fold of path is the test split; remove test_path"):
        schema(path="x", test_path="y", folds=3)  # type: ignore[call-arg]
    assert schema(path="x", val_path="y").own_paths == {"val": "y"}  # type: ignore[call-arg]
