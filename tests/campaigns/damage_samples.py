"""Small files of every kind that the suite reads, each with its real reader."""

import gzip
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import experiments
from datamodules.assets.asset_catalog import Asset
from datamodules.assets.asset_sources import LocalFolder, Member
from datamodules.assets.fetch import fetch_asset
from datamodules.configs.steering_pairs import SteeringPairsConfig
from datamodules.configs.token_corpus import TextConfig
from datamodules.images.idx import read_idx
from datamodules.images.image_files import read_image
from datamodules.info import ImageInfo
from datamodules.prompts.prompt_sets import COLUMNS, find_prompt_set, read_prompt_set
from datamodules.steering_pairs import read_pairs
from datamodules.text.pronunciation_dictionary import read_dictionary
from datamodules.text.text_source import TextFiles, summarize
from datamodules.text.token_preparation import prepare_corpus
from datamodules.tokenizers import tokenizer_of_gguf
from experiments.config.check import load_config
from experiments.language_models.pretrained_models import open_pretrained
from experiments.steering.states_manifest import Manifest, save_with_manifest
from experiments.studies.compare_runs import compare_runs
from experiments.studies.finished_runs import read_run
from experiments.training.checkpoint import load
from experiments.training.confusion import Confusion, read_confusion
from experiments.training.curve_file import read_curves
from lit_modules.pretrained.gguf import read_gguf

Values = dict[str, Any]
"""The arguments of one `Kind`."""
_IMAGE = ImageInfo(
    input_shape=(1, 28, 28), class_names=(), mean=(), std=(), object_size=20, object_center="mass"
)
_TEXT = "the cat sat on the mat; a dog ran to the café.\n"


def fingerprint(value: Any) -> str:
    """Return a digest of nested plain data, arrays and tensors."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, Mapping):
            for key in part:
                digest.update(f"key {key!r} ".encode("utf-8", "backslashreplace"))
                add(part[key])
        elif isinstance(part, list | tuple):
            digest.update(f"{len(part)} ".encode())
            for entry in part:
                add(entry)
        elif isinstance(part, Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            digest.update(part.detach().contiguous().flatten().view(torch.uint8).numpy())
        elif isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape} ".encode() + part.tobytes())
        else:
            digest.update(f"{part!r} ".encode("utf-8", "backslashreplace"))

    add(value)
    return digest.hexdigest()


def make(root: Path) -> Iterator[Values]:
    """Write the files below a folder, and yield the arguments of each `Kind`."""
    for part in (_run, _tokens, _images, _asset, _gguf, _folder, _prompts, _states, _texts):
        folder = root / part.__name__.strip("_")
        folder.mkdir()
        yield from part(folder)


def _run(folder: Path) -> Iterator[Values]:
    run = folder / "run"
    experiments.run(
        {
            "model": {"name": "mlp", "hidden": [8]},
            "data": {"name": "digits"},
            "trainer": {"max_epochs": 1, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
            "run_dir": str(run),
        }
    )
    last = run / "checkpoints" / "last.ckpt"
    for path in (run / "checkpoints" / "best.ckpt", last):
        yield {"name": path.name, "path": path, "read": lambda path=path: load(path), "has_proof": True}
    config = run / "config.yaml"
    yield {"name": "config.yaml", "path": config, "read": lambda: load_config(config).plain}
    metrics = run / "metrics.json"
    yield {
        "name": "metrics.json",
        "path": metrics,
        "read": lambda: (read_run(run).metrics, read_run(run).failure),
    }
    yield {"name": "metrics.csv", "path": run / "metrics.csv", "read": lambda: read_curves(run)}
    Confusion(class_names=("a", "b"), counts=((30, 4), (5, 61))).write(run)
    table = run / "test_confusion.csv"
    yield {"name": "test_confusion.csv", "path": table, "read": lambda: read_confusion(run)}
    study = {"name": "compared metrics.json", "path": metrics}
    yield study | {"read": lambda: compare_runs([run]).markdown()}


def _tokens(folder: Path) -> Iterator[Values]:
    text = folder / "text.txt"
    text.write_text(_TEXT * 40, encoding="utf-8")
    settings = {"name": "text", "path": str(text), "root": str(folder), "context_length": 8}
    plain = load_config({"model": {"name": "language_model"}, "data": settings}).data.config
    assert isinstance(plain, TextConfig)

    def read() -> Any:
        prepared = prepare_corpus(TextFiles.under(text), plain, name="text")
        return prepared.parts, prepared.tokenizer.to_dict()

    read()
    for path in sorted((folder / "tokens").glob("*/*")):
        yield {"name": f"tokens {path.name}", "path": path, "read": read, "has_proof": True}


def _images(folder: Path) -> Iterator[Values]:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", 5, 8, 8) + pixels.tobytes()
    for name, data in (("images-idx3", idx), ("images-idx3.gz", gzip.compress(idx, mtime=0))):
        (folder / name).write_bytes(data)
        path, has_proof = folder / name, name.endswith("gz")
        read = lambda path=path: read_idx(path, ndim=3)  # noqa: E731
        yield {"name": name, "path": path, "read": read, "has_proof": has_proof}
    stroke = np.zeros((60, 90), dtype=np.uint8)
    stroke[20:50, 30:38] = 230
    for suffix in ("png", "jpg", "bmp", "gif", "tif", "webp"):
        path = folder / f"picture.{suffix}"
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(stroke).save(
            path, **({"exif": exif} if suffix in ("png", "jpg", "webp", "tif") else {})
        )
        yield {"name": f"{suffix} picture", "path": path, "read": lambda path=path: read_image(path, _IMAGE)}


def _asset(folder: Path) -> Iterator[Values]:
    data = _TEXT.encode() * 9
    (folder / "source").mkdir()
    (folder / "source" / "a.txt").write_bytes(data)
    member = Member(name="a.txt", size=len(data), sha256=hashlib.sha256(data).hexdigest())
    asset = Asset(
        description="One.", members=(member,), sources=(LocalFolder(str(folder / "source")),), licence="none"
    )
    read = lambda: (fetch_asset("one", asset, folder) / "a.txt").read_bytes()  # noqa: E731
    read()
    yield {"name": "cached asset", "path": folder / "one" / "a.txt", "read": read, "has_proof": True}


def _gguf(folder: Path) -> Iterator[Values]:
    path, rng = folder / "tiny.gguf", np.random.default_rng(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer = gguf.GGUFWriter(path, "llama")
    numbers = {"block_count": 1, "context_length": 16, "embedding_length": 32, "feed_forward_length": 32}
    numbers |= {"attention.head_count": 2, "attention.head_count_kv": 1}
    for key, value in numbers.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(alphabet)
    writer.add_token_types([1] * len(alphabet))
    writer.add_eos_token_id(3)
    shapes = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
    shapes |= {"ffn_gate": (32, 32), "ffn_up": (32, 32), "ffn_down": (32, 32)}
    quantisation = gguf.GGMLQuantizationType.Q8_0
    tensors = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    for name, shape in (tensors | {"token_embd.weight": (len(alphabet), 32)}).items():
        array = rng.standard_normal(shape, dtype=np.float32)
        writer.add_tensor(name, gguf.quants.quantize(array, quantisation), raw_dtype=quantisation)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    def read() -> Any:
        model = read_gguf(path)
        tokens = tokenizer_of_gguf({"ggml.merges": []} | model.tokenizer).to_dict()
        return model.state_dict, repr(model.config), model.end_ids, tokens

    yield {"name": "GGUF", "path": path, "read": read}


def _folder(folder: Path) -> Iterator[Values]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"vocab_size": 260, "max_position_embeddings": 16, "eos_token_id": 256}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))

    def read() -> Any:
        model = open_pretrained(str(folder), laid_out=False)
        return dict(model.network.state_dict()), model.stop_ids, model.tokenizer.to_dict()

    for path in sorted(folder.glob("*.*")):
        yield {"name": f"Hugging Face {path.name}", "path": path, "read": read}


def _prompts(folder: Path) -> Iterator[Values]:
    for name in COLUMNS:
        (folder / name).write_bytes((find_prompt_set("yes_no") / name).read_bytes())
    for name in COLUMNS:
        read = lambda: repr(read_prompt_set(folder))  # noqa: E731
        yield {"name": f"prompts {name}", "path": folder / name, "read": read}


def _states(folder: Path) -> Iterator[Values]:
    path = folder / "states.safetensors"
    manifest = Manifest(
        model="m",
        model_sha256="0" * 64,
        prompts="p",
        prompts_sha256="1" * 64,
        template="chat",
        layers=(1, 2),
        position="last",
    )
    split = torch.tensor([0, 0, 1, 1, 2, 2], dtype=torch.uint8)
    states = {"h": torch.randn(6, 2, 5), "z": torch.randn(6, 2, 5), "split": split}
    save_with_manifest(path, states, manifest)
    config = SteeringPairsConfig(path=str(path), input_layer=1, target_layer=2)
    yield {
        "name": "steering states",
        "path": path,
        "read": lambda: read_pairs(path, config),
        "has_proof": True,
    }


def _texts(folder: Path) -> Iterator[Values]:
    dictionary = folder / "my.dict"
    dictionary.write_text(
        "cat K AE1 T\ntomato T AH0 M EY1 T OW2\ntomato(2) T AH0 M AA1 T OW2\ncafé K AE0 F EY1\n"
    )
    yield {"name": "dictionary", "path": dictionary, "read": lambda: read_dictionary(dictionary)}
    corpus = folder / "corpus.txt"
    corpus.write_text(_TEXT * 20, encoding="utf-8")
    yield {"name": "corpus", "path": corpus, "read": lambda: summarize(TextFiles.under(corpus)).sha256}
