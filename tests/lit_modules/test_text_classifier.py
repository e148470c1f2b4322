import lightning as L
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules.info import LabelledTextInfo, TextInfo
from lit_modules.configs.objective import CrossEntropyConfig
from lit_modules.configs.optim import AdamWConfig
from lit_modules.configs.text_classifier import TextClassifierConfig
from lit_modules.objective import CrossEntropy
from lit_modules.text_classifier import TextClassifier

INFO = LabelledTextInfo(vocab_size=12, context_length=6, class_names=("a", "b", "c"))
SMALL = TextClassifierConfig(depth=1, width=8, num_heads=2)


def build(config: TextClassifierConfig = SMALL, **options) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier(config, INFO, **options)


def batch(count: int, classes: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(12, (count, 6), generator=generator)
    lengths = torch.randint(1, 7, (count, 1), generator=generator)
    return tokens.masked_fill(torch.arange(6) >= lengths, -1), torch.randint(
        classes, (count,), generator=generator
    )


def trainer(**options) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


def test_a_step_gives_a_loss_to_descend_and_features_lead_to_the_logits():
    objective = CrossEntropy(CrossEntropyConfig(label_smoothing=0.3))
    module = build(TextClassifierConfig(depth=1, width=8, num_heads=2), objective=objective)
    tokens, targets = batch(7)
    step = module.training_step((tokens, targets), 0)
    smooth = 0.7 * F.one_hot(targets, 3) + 0.1  # 0.3 spread over three classes
    expected = -(smooth * module(tokens).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(step["loss"], expected)
    assert not step["logits"].requires_grad
    torch.testing.assert_close(module.network.head(module.features(tokens)), module(tokens))
    step["loss"].backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 2])
@pytest.mark.parametrize("stage", ["val", "test"])
def test_what_is_logged_is_of_all_samples_together(stage: str, classes: int):
    """With two of the three classes among the targets too, as in a fold without a play of the third."""
    module, (tokens, targets) = build(), batch(23, classes)
    loader = DataLoader(TensorDataset(tokens, targets), batch_size=5)
    run = trainer().validate if stage == "val" else trainer().test
    for _ in range(2):  # the second pass shows that nothing is left of the first
        (metrics,) = run(module, loader, verbose=False)
        logits = module(tokens).detach().double()
        predicted, probabilities = logits.argmax(1), logits.softmax(1)
        areas = [sklearn.metrics.roc_auc_score(targets == c, probabilities[:, c]) for c in range(classes)]
        expected = {
            "loss": sklearn.metrics.log_loss(targets, probabilities, labels=[0, 1, 2]),
            "accuracy": sklearn.metrics.accuracy_score(targets, predicted),
            "macro_f1": sklearn.metrics.f1_score(targets, predicted, average="macro"),
            "auc": sum(areas) / classes,
        }
        assert metrics == {f"{stage}/{name}": pytest.approx(v, rel=1e-5) for name, v in expected.items()}


@pytest.mark.slow
def test_learns_which_token_a_text_has():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 12, (120, 6), generator=generator)
    targets = torch.arange(120) % 3
    tokens[torch.arange(120), torch.randint(6, (120,), generator=generator)] = targets
    train, test = (
        DataLoader(TensorDataset(tokens[part], targets[part]), batch_size=10)
        for part in (slice(90), slice(90, None))
    )
    module = build(optimizer=AdamWConfig(lr=0.02))
    run = trainer(max_epochs=20)
    run.fit(module, train, test)
    (metrics,) = run.test(module, test, verbose=False)
    assert metrics["test/macro_f1"] > 0.9


def test_a_subclass_brings_its_own_network():
    class Bag(TextClassifier):
        def build_network(self, config, info):
            return nn.Sequential(nn.EmbeddingBag(info.vocab_size, len(info.class_names)))

    module = Bag(SMALL, INFO)
    tokens = torch.randint(12, (4, 6))
    torch.testing.assert_close(module(tokens), F.embedding_bag(tokens, module.network[0].weight))


def test_data_without_labelled_texts_is_refused():
    with pytest.raises(ValueError, match=r"data of the kind 'text'; choose data\.name play_passages"):
        TextClassifier(SMALL, TextInfo(vocab_size=12, context_length=6))
