"""Templates of chat models for tests: the form of the published ones, without tools."""

_CHATML_TURNS = (
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _with_default(system: str) -> str:
    """ChatML with the default system message of a model, as SmolLM2 and Qwen2 write it."""
    return (
        "{% for message in messages %}"
        "{% if loop.first and messages[0]['role'] != 'system' %}"
        f"{{{{ '<|im_start|>system\n{system}<|im_end|>\n' }}}}"
        "{% endif %}" + _CHATML_TURNS
    )


TEMPLATES = {
    "smollm2": _with_default("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "chatml": "{% for message in messages %}" + _CHATML_TURNS,
}
"""One template for each format of the suite."""
