"""Recognise the chat templates of published models.

The files of a chat model describe its format by a template, which is a program in the language Jinja. The
suite never runs it. It compares the whole template with those that it knows, and writes the format itself.
"""

import hashlib
import re
from collections.abc import Mapping

from jinja2 import Environment, TemplateError

_DIGESTS: Mapping[str, tuple[str, ...]] = {
    "smollm2": ("0f74a200f281c30b1bc23ba33b00e5affc1e789e32aab610f639ee2d4a65d517",),
    "chatml": (
        "be7f49cfe162f76c5789ad2a2d8b06a4327e2811c35c45c0386c81f5809ff440",
        "b45766aade822516db8ea9f162300d78dea7f7b9df436d78b320e65185121246",  # Yi
        "eaba675c71dbc1bf4c7b50a0015327dc6621d269e2172a3f80618e2e5e9d4c00",  # Qwen3-Instruct-2507
    ),
    "qwen2": ("2a6f33becc53da5286513aa1ea5e84daf82b723f3e82d7ed4b6a7063c8bad785",),
    "qwen2.5": (
        "deea5f9faf3d7bc6118024f238278348b52e8045e8442a1e3e430c8f6ace342a",
        "9dd80dcca863e9c8f7331b47356f90ce1f55c6bcbbb7edac73433a239965eec9",  # Qwen2.5-7B-Instruct
    ),
    "qwen3": (
        "904e014e877f68d54f9b798a2c6321fef84746a2347c0b64112710d0ce9dd948",
        "0e34099479706194990f1b7dd8fc10ee3536bdb56e60744d6058613eaf1ccd5f",  # Qwen3-0.6B
        "4d8495c809ead5cd8792927bf4774f37f7ac71fb691f5ef9afa31f56770079b4",  # Qwen3, another revision
    ),
    "llama3": (
        "3978fd929aeb19faf4bbd3aefcee53b5e9b4241c837b15575960b57c18714f25",
        "800c63d57736fdfb087b0886430a02a8d22742849b5a6d2abbc2ed2e8a3c3ea6",  # Meta-Llama-3-8B-Instruct
    ),
    "llama3.1": (
        "587575fbb237ce0710fa349eba581466bd3873fe0adecf79a7331deea135c450",
        "46bb15cbf7734f509daebfd13c1a4b84084d73888165ca786afbba3deb954eac",  # Llama-3.1-8B, Llama-3.3-70B
        "b67af1aa82a7e97b4b5071273f72a6ba3a703f62270ba735cacc2fc73224f95e",  # Llama-3.2-3B-Instruct
    ),
    "mistral": (
        "ec2663b4b5cbb8ffbcd7e036a1ba64aa65401f3a6fbd523d38336ea6c7014d8e",
        "debba9a4de098f92c12f673cb807878115c1f9af777168bc69946d8cadc3a808",  # Mistral-Nemo-Instruct-2407
    ),
}
"""Digests of the known templates, by the name of their format: first the short form, then published ones."""
_SMOLLM3 = "Knowledge Cutoff Date: June 2025"
_LONGEST_TEMPLATE = 20_000  # characters; the longest published ones have a quarter of this
_ITEM = re.compile(r"lbracket '\['\nstring '(\w+)'\nrbracket '\]'\n")
_LEXER = Environment(trim_blocks=True, lstrip_blocks=True).lexer  # `transformers` drops the same white space


def recognise(template: object) -> str | None:
    """Return the name of the format that a model's chat template describes, without running the template.

    Returns:
        A name in `chat_formats.FORMATS`; or SmolLM3, which is not implemented; or None if the template is not
        known.
    """
    if not isinstance(template, str) or len(template) > _LONGEST_TEMPLATE:
        return None
    if _SMOLLM3 in template:
        return "SmolLM3"
    try:
        digest = template_digest(template)
    except (TemplateError, ValueError):
        return None
    return next((name for name, digests in _DIGESTS.items() if digest in digests), None)


def template_digest(template: str) -> str:
    """Return the SHA-256 of a template's tokens.

    Comments, quotes and the white space inside tags don't count. Nor does white space that Jinja drops.
    `message['role']` is the same as `message.role`.

    Raises:
        TemplateError: It is not in the language Jinja.
        ValueError: It has a number that is too long.
    """
    tokens = "".join(
        f"{token.type} {'' if token.type.endswith(('_begin', '_end')) else repr(token.value)}\n"
        for token in _LEXER.tokenize(template)
    )
    return hashlib.sha256(_ITEM.sub(r"dot '.'\nname '\1'\n", tokens).encode()).hexdigest()
