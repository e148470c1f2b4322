"""How many tokens a sample has: throughput of text is counted in them."""

import lightning as L


def tokens_per_sample(pl_module: L.LightningModule) -> int:
    """Tokens in a sample of the data that a module was built for; 0 where it isn't made of tokens."""
    return int(getattr(getattr(pl_module, "info", None), "context_length", 0))
