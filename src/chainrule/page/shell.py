"""One HTML file with its style and script inside, closed to everything else.

A content security policy names the style and the script by their hash: no other may run, and the
page can load nothing. Whatever comes from a user goes through `escape`, or into the page as data.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from functools import cache
from importlib.resources import files
from typing import Any

# Characters that no HTML page may hold, and those that reverse or hide what stands around them.
_FORBIDDEN = {
    **dict.fromkeys([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0)], "�"),
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0xFEFF], "�"),
    **dict.fromkeys([*range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "�"),
}


def escape(text: object) -> str:
    """Text that stays text in HTML and in attributes, whatever a user has written.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(str(text).translate(_FORBIDDEN), quote=True)


def script_data(value: Any) -> str:
    """JSON that can stand inside a script element: no `<` ends the element, no NaN breaks it.

    Numbers that JSON lacks become strings, which the page's script reads back.

    >>> script_data({"name": "</script>", "value": float("nan")})
    '{"name": "\\\\u003c/script>", "value": "NaN"}'
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value.translate(_FORBIDDEN) if isinstance(value, str) else value


@cache
def asset(name: str) -> str:
    """The text of a file that ships with this room."""
    return (files(__package__) / name).read_text(encoding="utf-8")


def page(title: str, body: str, *, data: Any = None, script: str = "", style: str = "") -> str:
    """A whole HTML document: `body` is HTML (escaped by its maker), `data` goes to the script.

    >>> page("A <title>", "<p>text</p>").startswith("<!DOCTYPE html>")
    True
    """
    sheet = asset("page.css") + style
    inner = re.findall(r"<style>(.*?)</style>", body, flags=re.DOTALL)  # of pictures in the body
    styles = " ".join(f"'{_hash(text)}'" for text in dict.fromkeys([sheet, *inner]))
    policy = f"default-src 'none'; style-src {styles}; img-src data:"
    parts = []
    if script:
        policy += f"; script-src '{_hash(script)}'"
        parts.append(f'<script type="application/json" id="data">{script_data(data)}</script>')
        parts.append(f"<script>{script}</script>")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{sheet}</style>
</head>
<body>
{body}
{"".join(parts)}
</body>
</html>
"""


_ALIGNED = (
    ".cr-formulas{overflow-x:auto}.cr-formulas mtd{text-align:left;padding:.15em .25em}"
    ".cr-formulas mtd:first-child:not(:only-child){text-align:right}"
)


def formulas(mathml: str) -> str:
    """MathML whose lines stand below each other at their equals signs, in a notebook as on a page.

    >>> formulas("<math></math>").endswith("<math></math></div>")
    True
    """
    opening = '<div class="cr-formulas" tabindex="0" role="region" aria-label="Formulas">'
    return f"{opening}<style>{_ALIGNED}</style>{mathml}</div>"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
