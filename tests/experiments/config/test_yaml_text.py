"""A text is read as YAML within limits, and an override as it was typed."""

import time
from pathlib import Path

import pytest
import yaml

from experiments.config.check import load_config
from experiments.config.sources import override, read_override
from experiments.config.yaml_text import MAX_BYTES, parse_file
from experiments.errors import UserError

HEAD = "model: {name: mlp}\ndata: {name: digits}\n"
BOMB = "x0: &x0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 8)
)
LAUGHS = "a0: [1, 1]\n" + "".join(
    f"a{i}: [{','.join(['$' + '{' + f'a{i - 1}' + '}'] * 10)}]\n".replace("$", "'$").replace("}", "}'")
    for i in range(1, 9)
)
HUGE = {
    "aliases": BOMB,
    "references": f"{LAUGHS}model.hidden: ${{a8}}\n",
    "a chain of references": "".join(f"a{i}: ${{a{i - 1}}}\n" for i in range(1, 400)) + "name: ${a399}\n",
    "a text that doubles": "a0: aaaaaaaa\n"
    + "".join(f"a{i}: ${{a{i - 1}}}${{a{i - 1}}}\n" for i in range(1, 40))
    + "name: ${a39}\n",
    "keys": "".join(f"k{i}: 1\n" for i in range(100_000)),
    "keys within the limit": "".join(f"k{i}: 1\n" for i in range(4_000)),
    "variants": "variants:\n" + "".join(f"  v{i}: {{}}\n" for i in range(3_000)),
    "fits": "seeds: [0, 1]\nvariants:\n" + "".join(f"  v{i}: {{}}\n" for i in range(900)),
    "seeds": f"seeds: [{','.join(map(str, range(3_000)))}]\n",
    "brackets": f"a: {'[' * 90_000}\n",
    "sections": "a: " + "{a: " * 300 + "1" + "}" * 300 + "\n",
    "a word": f"name: {'a' * 190_000}\n",
    "a key": f"? {'a' * 190_000}\n: 1\n",
    "a list": f"model.hidden: [{','.join(['8'] * 4_500)}]\n",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE.keys())
def test_a_huge_text_is_refused_in_one_short_line_within_two_seconds(text: str, work: Path) -> None:
    (work / "huge.yaml").write_text(HEAD + text)
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        load_config("huge.yaml")
    assert time.process_time() - start < 2
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_a_study_of_many_fits_is_read_within_two_seconds(work: Path) -> None:
    variants = "".join(f"  v{i}: {{model.hidden: [{i + 1}]}}\n" for i in range(500))
    (work / "study.yaml").write_text(f"{HEAD}variants:\n{variants}")
    start = time.process_time()
    assert len(load_config("study.yaml").children) == 500
    assert time.process_time() - start < 2


def test_two_merge_keys_in_one_mapping_merge_as_in_yaml(work: Path) -> None:
    text = (
        f"{HEAD}variants:\n  one: &x {{model.hidden: [8]}}\n"
        "  two: &y {model.hidden: [9], data.batch_size: 2}\n"
        "  both:\n    <<: *x\n    <<: *y\n    data.batch_size: 3\n"
    )
    values, lines = parse_file(text, "a.yaml")
    assert values == yaml.safe_load(text)
    assert lines["variants.both.data.batch_size"] == 9
    (work / "a.yaml").write_text(text)
    both = next(child for child in load_config("a.yaml").children if child.path.startswith("both/"))
    assert both.config.data.config.batch_size == 3


def test_a_file_above_the_limit_is_not_read(work: Path) -> None:
    (work / "big.yaml").write_text(HEAD + "#" * MAX_BYTES)
    with pytest.raises(UserError, match="limit of a config file"):
        load_config("big.yaml")


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a b",
        "a #b",
        "&x",
        "*x",
        "!x",
        "~",
        "no",
        "010",
        "1e3",
        "null",
        "a: b",
        "[a]",
        "a'b",
        'a"b',
        "a\\b",
        "ü",
        "",
    ],
)
def test_an_override_that_is_written_for_a_person_reads_back(path: str) -> None:
    assert read_override(override("resume", path)).values == {"resume": path}
