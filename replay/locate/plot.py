"""A located difference as a plot: an SVG file that holds no script, no link and no text but inert names."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from replay.locate.alignment import LayerGap, describe_key
from replay.locate.locating import Located
from replay.locate.wording import describe_root, magnitude
from replay.show.text import inert

__all__ = ["plot_svg"]

_WIDTH, _HEIGHT = 960, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 64, 60
#: The axis of the error, as powers of ten; what lies below is drawn on the lower edge.
_LOW, _HIGH = -9, 1
#: Beyond, a plot of this width shows nothing more: the layers are thinned evenly, the root stays.
_MAX_POINTS = 600


def plot_svg(located: Located, names: tuple[str, str]) -> str:
    """Draw the error of every innermost layer in the order of the pass.

    Args:
        located: what was found.
        names: of the two sides.

    Returns:
        An SVG document: a line for the error of each layer's output, dots for its error when run alone.
    """
    layers = (
        [layer for layer in located.parting.layers if layer.is_leaf or layer.key == located.parting.root]
        if located.parting
        else []
    )
    step = max(1, math.ceil(len(layers) / _MAX_POINTS))
    shown = [layer for number, layer in enumerate(layers) if number % step == 0 or _is_root(layer, located)]
    parts = [*_axes(len(layers)), *_errors(shown, located)]
    title = inert(f"{names[0]} against {names[1]}", 120)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            _text(_LEFT, 22, title, size=15),
            _text(_LEFT, 42, _short(describe_root(located), 130)),
            *parts,
            _text(
                _LEFT, _HEIGHT - 14, "line: error of the output · dots: error alone, on the same inputs · red: the root"
            ),
            "</svg>",
            "",
        ]
    )


def _axes(count: int) -> list[str]:
    lines = []
    for power in range(_LOW, _HIGH + 1, 2):
        y = _y(10.0**power)
        lines.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(_text(_LEFT - 8, y + 4, f"1e{power}", anchor="end"))
    lines.append(_text(_WIDTH - _RIGHT, _HEIGHT - _BOTTOM + 20, f"{count} layers, in their order", anchor="end"))
    return lines


def _errors(layers: list[LayerGap], located: Located) -> list[str]:
    xs = [_LEFT + (_WIDTH - _LEFT - _RIGHT) * (number + 0.5) / len(layers) for number in range(len(layers))]
    points = " ".join(f"{x:.1f},{_y(layer.rel_l2):.1f}" for x, layer in zip(xs, layers, strict=True))
    parts = [f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>']
    for x, layer in zip(xs, layers, strict=True):
        alone = located.alone.get(layer.key)
        says = f"{_short(describe_key(layer.key, layer.kind), 120)}: {magnitude(layer.rel_l2)}"
        if alone is not None and alone.rel_l2:
            parts.append(_dot(x, _y(alone.rel_l2), 2.5, "#d08000", f"{says}, alone {magnitude(alone.rel_l2)}"))
        if _is_root(layer, located):
            parts.append(_dot(x, _y(layer.rel_l2), 5, "#c00000", says))
    return parts


def _is_root(layer: LayerGap, located: Located) -> bool:
    return located.parting is not None and layer.key == located.parting.root


def _y(rel_l2: float | None) -> float:
    power = math.log10(rel_l2) if rel_l2 else -math.inf
    share = (min(max(power, _LOW), _HIGH) - _LOW) / (_HIGH - _LOW)
    return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)


def _dot(x: float, y: float, radius: float, colour: str, says: str) -> str:
    title = f"<title>{escape(says)}</title>"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}">{title}</circle>'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(text: str, limit: int) -> str:
    return inert(text, limit)
