import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from experiments.callbacks.hooks import STEP_HOOKS, skip_unused_hooks

# Lightning 2.6 asks PyTorch's pytree in a way that PyTorch 2.15 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")


@skip_unused_hooks
class Counter(Callback):
    def __init__(self):
        self.calls = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.calls.append(batch_idx)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.calls.append(f"val {batch_idx}")


@skip_unused_hooks
class SubCounter(Counter):
    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        self.calls.append("zero")


class Batches:
    """A loader, which a list is not: Lightning takes that for several."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_runs_and_calls_exactly_the_hooks_in_use():
    counter, sub = Counter(), SubCounter()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[counter, sub],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Model(), Batches([torch.ones(1, 2)] * 2), Batches([torch.ones(1, 2)]))
    assert counter.calls == [0, 1, "val 0"]
    assert sub.calls == ["zero", 0, "zero", 1, "val 0"]


def test_unused_hooks_are_gone_and_callback_itself_is_untouched():
    gone = {name for name in STEP_HOOKS if getattr(Counter, name) is None}
    assert gone == set(STEP_HOOKS) - {"on_train_batch_end", "on_validation_batch_end"}
    assert all(callable(getattr(Callback, name)) for name in STEP_HOOKS)
