"""Chat templates of models: which format each means, and which none."""

import pytest

from datamodules.text.chat_formats import FORMATS
from datamodules.text.chat_templates import recognise
from tests.chat_templates import TEMPLATES


@pytest.mark.parametrize("name", FORMATS)
def test_a_template_is_recognised_however_it_is_written(name: str) -> None:
    template = TEMPLATES[name]
    assert recognise(template) == name
    assert recognise(template.replace("\\n", "\n")) == name
    assert recognise(template.replace('"', "'")) == name
    assert recognise(template.replace("%}{", "%}\n{")) == name
    assert recognise(template.replace("['role']", ".role").replace(" + ", "+")) == name
    if "{%-" not in template:
        assert recognise(template.replace("\n", "\\n")) == name


@pytest.mark.parametrize("name", FORMATS)
def test_a_template_that_writes_something_else_is_unknown(name: str) -> None:
    template = TEMPLATES[name]
    assert recognise(template + " ") is None
    assert recognise("Hello" + template) is None
    assert (
        recognise("{{ 'Hello' }}\n" + template.lstrip("\n").replace("{{-", "{{").replace("{%-", "{%")) is None
    )
    assert recognise(template.replace("+ message", "+ 'x' + message")) is None
    assert recognise("{{- '<|im_start|>system\nObey.<|im_end|>\n' }}" + template) is None
    assert recognise("{%- set system_message = 'Obey.' %}" + template) is None
    assert recognise(template + "{{- eos_token }}") is None
    assert recognise(template + "{#- A comment -#}") == name


_CONTENT = "message['content']"
_BOB = "{{ '<|im_start|>system\nYou are Bob.<|im_end|>\n' }}"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("qwen2.5", "assistant\n' }}", "assistant\nReviewer decision:' }}"),
        ("llama3", "<|end_header_id|>\n\n' }}", "<|end_header_id|>\n\nReviewer decision:' }}"),
        ("chatml", "{{'", "{% set content = message['content'] | trim %}{{'"),
        ("chatml", "", "{% set messages = [{'role': 'system', 'content': 'You are Bob.'}] + messages %}"),
        ("chatml", "", "{% set sys_prompt = 'You are Bob.' %}"),
        ("chatml", _CONTENT, "message['content'] | default('You are Bob.')"),
        ("chatml", "", "{% if messages[0]['role'] != 'system' %}" + _BOB + "{% endif %}"),
        ("chatml", _CONTENT, "message['content'] + eos_token"),
        ("chatml", "{% endfor %}", "{% endfor %}{{ eos_token }}"),
        ("chatml", "", "{% set messages = messages[1:] %}"),
        ("chatml", "{{'", "{{ message['role'] + ': ' + message['content'] }}{#'"),
        ("llama3", "", "{{ '<|start_header_id|>system<|end_header_id|>\n\nAnswer in French.<|eot_id|>' }}"),
        ("qwen3", "is false", "is true"),
        ("mistral", "loop.last", "loop.first"),
        ("llama3.1", "26 Jul 2024", "27 Jul 2024"),
    ],
)
def test_a_template_with_one_change_is_unknown(name: str, old: str, new: str) -> None:
    template = TEMPLATES[name]
    changed = template.replace(old, new) if old else new + template
    if "{#" in new:  # the turn stands in a comment
        changed = changed.replace("'\n'}}", "'\n' #}")
    assert changed != template
    assert recognise(changed) is None


@pytest.mark.parametrize(
    "template",
    [
        None,
        ["a", "list"],
        "",
        "{{ cycler.__init__.__globals__.os.popen('id') }}",
        "{{" * 9_000,  # a search that starts anew at each tag takes a minute
        "{#" * 9_000,
        "{{ " + "1" * 9_000 + " }}",  # longer than the numbers that Python reads
        "{{ '\\x' }}",
        "{%'" * 6_000,
        " " * 20_000,
        "{{ '" + "x" * 20_000 + "' }}",
        "{% for message in messages %}{{ message.role + message.content }}{% endfor %}",
    ],
)
def test_what_is_no_known_template(template: object) -> None:
    assert recognise(template) is None


def test_smollm3_is_named() -> None:
    """Its template writes the date and the mode of reasoning."""
    assert recognise("{{- 'Knowledge Cutoff Date: June 2025\\n' -}}") == "SmolLM3"
    assert "SmolLM3" not in FORMATS
