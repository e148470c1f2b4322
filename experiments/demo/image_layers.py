"""Layers for images.

Convolution, pooling and the residual connection.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from experiments.demo.outcome import Outcome, Result, numbers, random
from lit_modules.layers.convolution import Conv2d, MaxPool2d, conv2d, max_pool2d, windows
from lit_modules.layers.residual import Residual


def convolution() -> Outcome:
    """Slide a kernel over an image.

    Formula: y_ij = b + Σ_kl w_kl x_{i+k, j+l}; ⌊(N + 2p − K) / s⌋ + 1 outputs along an axis
    Source: LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition"
    Mistake: Flipping the kernel, as the convolution of mathematics does; networks correlate.
    Code: lit_modules/layers/convolution.py
    """
    image = numbers((0, 0, 1, 1, 1), (0, 0, 1, 1, 1), (0, 0, 1, 1, 1), (0, 0, 0, 0, 1)).view(1, 1, 4, 5)
    kernel = numbers((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)).view(1, 1, 3, 3)
    sizes = {"kernel_size": 3, "stride": 2, "padding": 1}
    layer = Conv2d(in_channels=1, out_channels=1, bias=False, implementation="by_hand", **sizes)
    layer.weight = nn.Parameter(kernel)
    return Outcome(
        inputs={"image": image, "kernel (Sobel)": kernel},
        results=[
            Result(
                "stride 1",
                conv2d(image, kernel),
                "F.conv2d",
                F.conv2d(image, kernel),
                wrong=("kernel flipped", F.conv2d(image, kernel.flip(-1, -2))),
            ),
            Result(
                "stride 2, padding 1",
                layer(image),
                "F.conv2d",
                F.conv2d(image, kernel, stride=2, padding=1),
            ),
        ],
    )


def pooling() -> Outcome:
    """Reduce each window of an image to one number.

    Formula: y_ij = max of the window, or its mean
    Source: Yamaguchi et al. 1990 (maximum); LeCun et al. 1990 (mean)
    Mistake: Padding with zeros, which are larger than negative inputs.
    Code: lit_modules/layers/convolution.py
    """
    image = numbers((-1, -3, -5, -7), (-2, -4, -6, -8), (-9, -2, -1, -4), (-5, -3, -8, -2)).view(1, 1, 4, 4)
    padded = F.pad(image, (1, 1, 1, 1))
    return Outcome(
        inputs={"image": image},
        results=[
            Result(
                "maximum of 2 × 2, stride 2",
                MaxPool2d(kernel_size=2, implementation="by_hand")(image),
                "F.max_pool2d",
                F.max_pool2d(image, 2),
            ),
            Result(
                "maximum of 3 × 3, stride 2, padding 1",
                max_pool2d(image, (3, 3), stride=(2, 2), padding=(1, 1)),
                "F.max_pool2d",
                F.max_pool2d(image, 3, stride=2, padding=1),
                wrong=("padded with 0", F.max_pool2d(padded, 3, stride=2)),
            ),
            Result(
                "mean of 2 × 2, stride 2",
                windows(image, (2, 2), stride=(2, 2)).mean((-2, -1)),
                "F.avg_pool2d",
                F.avg_pool2d(image, 2),
            ),
        ],
    )


def residual() -> Outcome:
    """Add the input of a block to its output.

    Formula: y = relu(F(x) + x)
    Source: He et al. 2016, "Deep residual learning for image recognition", eq. 1
    Mistake: relu(F(x)) + x: a block can then only add to its input, never subtract.
    Code: lit_modules/layers/residual.py
    """
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).double()
    zero = nn.Linear(4, 4).double()
    for parameter in zero.parameters():
        nn.init.zeros_(parameter)
    x = random(2, 4)
    return Outcome(
        inputs={"x": x},
        results=[
            Result(
                "relu(F(x) + x)",
                F.relu(Residual(block)(x)),
                "nn.Sequential",
                F.relu(block(x) + x),
                wrong=("relu(F(x)) + x", F.relu(block(x)) + x),
            ),
            Result("F = 0 gives the identity", Residual(zero)(x), "x", x),
            Result(
                "another width: y = W x + F(x)",
                Residual(block[:2], shortcut=block[2])(x),
                "nn.Sequential",
                block[2](x) + torch.relu(block[0](x)),
            ),
        ],
    )
