"""Schema of the probe of features; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting


@dataclass(kw_only=True)
class ProbeConfig:
    """Classify images by fixed features: logistic regression (a linear probe) and nearest neighbours."""

    fit: str = setting(help="The earlier stage whose network gives the features, and whose images are used.")
    features: Literal["trained", "untrained", "pixels"] = setting(
        "trained",
        "trained: those of the best network of the fit; untrained: of the network with random weights; "
        "pixels: the images themselves.",
    )
    labels: int = setting(0, "Number of labelled training images, stratified; 0 means all.", min=0)
    neighbors: int = setting(
        20, "Number of neighbours that vote, the most similar by cosine.", min=1, max=1000000
    )
    inverse_penalty: float = setting(
        1.0, "Inverse strength of the squared penalty on the weights of the linear probe.", above=0, max=1e12
    )
