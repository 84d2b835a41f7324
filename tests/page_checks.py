"""What is asked of every page in a browser."""

from __future__ import annotations

from typing import Any

_CONTRAST = """(words) => {
  const light = (c) => {
    const [r, g, b] = c.match(/[0-9.]+/g).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4)));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const inks = [...document.querySelectorAll(words)]
    .map((e) => light(getComputedStyle(e).color));
  return Math.min(...inks.map((i) => (Math.max(i, ground) + 0.05) / (Math.min(i, ground) + 0.05)));
}"""


def contrast(tab: Any, words: str) -> float:
    """The least contrast of the ground with the elements of this selector, as WCAG has it."""
    return float(tab.evaluate(_CONTRAST, words))
