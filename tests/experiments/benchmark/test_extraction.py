import argparse
from pathlib import Path

import torch

from experiments.benchmark import extraction


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true")
    extraction.add_arguments(parser)
    return parser.parse_args(arguments)


def test_every_way_reads_the_same() -> None:
    """A comparison of times means nothing between ways that differ."""
    network, examples = extraction.tiny_examples()
    ways = extraction.ways(network, examples, batch_size=3)
    expected = torch.cat(ways[extraction.BASELINE]())
    assert expected.shape == (len(examples), 1, network.embedding.embedding_dim)
    assert expected.abs().sum() > 1
    for name, way in ways.items():
        torch.testing.assert_close(torch.cat(way()), expected, rtol=1e-4, atol=1e-5, msg=name)


def test_measures_every_way() -> None:
    report = extraction.run(options("--quick", "--batch-size", "2"))
    assert [row["way"] for row in report.rows] == [extraction.BASELINE, "prompt by prompt", "in batches of 2"]
    assert all(row["prompts/s"].mean > 0 for row in report.rows)
    assert report.rows[0]["times as fast"].mean == 1


def test_reads_a_model_and_a_prompt_set(tmp_path: Path, write_llama) -> None:
    model = write_llama(tmp_path / "llama", max_position_embeddings=512)
    named = options("--model", str(model), "--count", "5", "--answers", "1")
    network, examples = extraction.read_examples(named)
    assert len(examples) == 5
    assert all(len(example.wanted) == len(example.unwanted) == 1 for example in examples)
    assert network.embedding.embedding_dim == 32
