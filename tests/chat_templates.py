"""Templates of chat models for tests: the form of the published ones, without tools."""

_CHATML_TURNS = (
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_LLAMA3_TURN = "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'" + (
    "+ message['content'] | trim + '<|eot_id|>'"
)
_LLAMA3_ANSWER = (
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
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
    "qwen2": _with_default("You are a helpful assistant."),
    "qwen2.5": _with_default("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen3": r"""
{%- set ns = namespace(asking=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if ns.asking and message.role == "user" %}
        {%- set ns.asking = false %}
        {%- set ns.last_query_index = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role != "assistant" %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- else %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if loop.index0 > ns.last_query_index and loop.last %}
            {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}""",  # noqa: E501
    "llama3": "{% for message in messages %}{% set content = "
    + _LLAMA3_TURN
    + " %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    + "{{ content }}{% endfor %}"
    + _LLAMA3_ANSWER,
    "llama3.1": r"""{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- """
    + _LLAMA3_TURN
    + " }}\n{%- endfor %}\n"
    + _LLAMA3_ANSWER,
    "mistral": r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]" + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- message["content"] + eos_token}}
    {%- endif %}
{%- endfor %}
""",
}
"""One template for each format of the suite."""
