"""The report's pictures, as SVG text: colours are CSS classes, so the page decides them for light and dark."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 960  # of every chart, in SVG units
_POSITIVE, _NEGATIVE = (42, 120, 214), (214, 80, 52)
_ALPHA_SPAN = 60.0  # a coefficient this many times below the largest is already faint
_LARGEST_SCORE = 0.9995  # a perfect score has no place on the accuracy axis


@dataclass(frozen=True)
class Line:
    """A network's training loss: (step, loss) points, and where there are branches (step, best, worst) of them."""

    name: str
    label: str
    points: Sequence[Sequence[float]]
    band: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Bar:
    """An accuracy in [0, 1]; `name` is the network, which gives the colour."""

    name: str
    label: str
    accuracy: float


@dataclass(frozen=True)
class BarGroup:
    """Bars under one heading, with the accuracy that the paper prints for it, in [0, 1]."""

    title: str
    bars: Sequence[Bar]
    paper: float | None = None


def _text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
    return head + "".join(parts) + "</svg>"


def _png(rows: Sequence[Sequence[tuple[int, int, int, int]]]) -> str:
    """Data URI of an RGBA image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 6, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _picture(x: float, y: float, size: float, uri: str, width: float | None = None) -> str:
    frame = f'x="{x}" y="{y}" width="{size if width is None else width}" height="{size}"'
    return f'<image {frame} href="{uri}" preserveAspectRatio="none" class="pixels"/><rect {frame} class="frame"/>'


def _pixel(share: float) -> tuple[int, int, int, int]:
    """RGBA of a coefficient that is `share` of the largest, logarithmic in its size.

    The opacity marks the size: zero is then the page itself, light or dark.
    """
    opacity = math.log1p(_ALPHA_SPAN * abs(share)) / math.log1p(_ALPHA_SPAN)
    return (*(_POSITIVE if share >= 0 else _NEGATIVE), round(255 * opacity))


def digit_and_branches(
    digit: Sequence[Sequence[float]], branches: Sequence[Sequence[float]], names: tuple[str, str]
) -> str:
    """The image (I, Q) and its coefficients (I, Q), under the share of the squared sum that each branch holds."""
    size, top, count = 336.0, 118.0, len(branches[0])
    left, right, cell = 56.0, WIDTH - 56.0 - 336.0, 336.0 / count
    largest = max(max(abs(value) for value in row) for row in branches) or 1.0
    grey = [[(shade, shade, shade, 255) for shade in (round(255 * min(max(v, 0), 1)) for v in row)] for row in digit]
    signed = [[_pixel(value / largest) for value in row] for row in branches]
    energy = [sum(row[q] ** 2 for row in branches) for q in range(count)]
    shares = [value / (sum(energy) or 1.0) for value in energy]
    middle, bottom = top + size / 2, top + size
    parts = [
        _picture(left, top, size, _png(grey)),
        _picture(right, top, size, _png(signed)),
        _text(left, top - 12, names[0], "strong"),
        _text(left - 10, top + 10, "row 0", "small", "end"),
        _text(left - 10, bottom - 2, f"row {len(digit) - 1}", "small", "end"),
        _rule(left + size + 22, middle, right - 76, middle, "arrow"),
        f'<path d="M{right - 76:.1f} {middle - 5:.1f} l8 5 l-8 5 z" class="solid"/>',
        _text((left + size + right - 46) / 2, middle - 12, "DCT of", "small", "middle"),
        _text((left + size + right - 46) / 2, middle + 20, "each row", "small", "middle"),
        _text(right - 10, top + 10, "row 0", "small", "end"),
        _text(right - 10, bottom - 2, f"row {len(branches) - 1}", "small", "end"),
    ]
    tallest = max(shares) or 1.0
    for q, share in enumerate(shares):
        bar = 50 * share / tallest
        parts.append(
            f'<rect x="{right + q * cell + 1:.1f}" y="{top - 8 - bar:.1f}" width="{cell - 2:.1f}" height="{bar:.1f}" '
            f'class="fill spectral"><title>branch {q}: {share:.1%} of the energy</title></rect>'
        )
    half = next((q for q in range(count) if sum(shares[: q + 1]) >= 0.9), count - 1)
    held = sum(shares[: half + 1])
    parts += [
        _text(right, 18, names[1], "strong"),
        _text(right, 38, f"bars: share of the energy, {shares[0]:.0%} in branch 0, {held:.0%} in 0 to {half}", "small"),
    ]
    for q in sorted({0, count // 4, count // 2, 3 * count // 4, count - 1}):
        parts.append(_text(right + (q + 0.5) * cell, bottom + 18, str(q), "small", "middle"))
    notes = [
        (0, f"branch 0: mean of each row × √{count}", "start"),
        (count - 1, f"branch {count - 1}: the finest oscillation along a row", "end"),
    ]
    for line, (q, note, anchor) in enumerate(notes):
        x, y = right + (q + 0.5) * cell, bottom + 44 + 20 * line
        parts += [
            _rule(x, bottom + 24, x, y - 12, "hair"),
            _text(x - 6 if anchor == "start" else x + 6, y, note, "", anchor),
        ]
    legend = bottom + 40
    ramp = _png([[_pixel(step / 90 - 1) for step in range(181)]])
    parts.append(
        f'<image x="{left}" y="{legend - 12}" width="180" height="12" href="{ramp}" preserveAspectRatio="none"/>'
    )
    parts += [
        _text(left, legend + 16, f"−{largest:.1f}", "small"),
        _text(left + 90, legend + 16, "0", "small", "middle"),
        _text(left + 180, legend + 16, f"+{largest:.1f}", "small", "end"),
        _text(left + 194, legend - 2, "coefficient, log scale", "small"),
    ]
    return _svg(bottom + 74, "An image and its spectral branches", parts)


def digit_and_parts(digit: Sequence[Sequence[float]], parts: Sequence[tuple[str, Sequence[Sequence[float]]]]) -> str:
    """The image, and beside it each branch's part of its spectrum, (title, values) with pixels of any shape."""
    top, size, gap = 30.0, 240.0, 28.0
    room = (WIDTH - 1 - size - gap * (len(parts) + 1)) / len(parts)
    grey = [[(shade, shade, shade, 255) for shade in (round(255 * min(max(v, 0), 1)) for v in row)] for row in digit]
    drawn = [_picture(0, top, size, _png(grey)), _text(0, top - 10, "the image", "strong")]
    largest = max(abs(value) for _, values in parts for row in values for value in row) or 1.0
    for i, (title, values) in enumerate(parts):
        height = min(size, room * len(values) / len(values[0]))
        width, x = height * len(values[0]) / len(values), size + 2 * gap + i * (room + gap)
        uri = _png([[_pixel(value / largest) for value in row] for row in values])
        drawn.append(_picture(round(x, 1), top, round(height, 1), uri, round(width, 1)))
        drawn.append(_text(x, top - 10, title, "strong"))
    return _svg(top + size + 6, "An image and what the branches see of it", drawn)


def _apart(positions: Sequence[float], gap: float, lowest: float, highest: float) -> list[float]:
    """The positions moved to be at least `gap` apart, in the same order, inside [lowest, highest] if they fit."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    moved = list(positions)
    for before, i in zip([None, *order], order, strict=False):
        moved[i] = max(moved[i], lowest if before is None else moved[before] + gap)
    ceiling = highest
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


def _log_ticks(low: float, high: float) -> list[float]:
    decades = math.log10(high / low)
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if decades < 0.7 else (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]


def _round_steps(last: float) -> list[float]:
    rough = max(last, 1) / 6
    power = 10 ** math.floor(math.log10(rough))
    width = max(1, next(step * power for step in (1, 2, 5, 10) if step * power >= rough))
    return [width * i for i in range(int(last / width) + 1)]


def loss_curves(lines: Sequence[Line]) -> str:
    """Training loss against the step, on a logarithmic axis; points that are not finite and positive are left out."""
    kept = [(line, [(p[0], p[1]) for p in line.points if p[1] > 0 and math.isfinite(p[1])]) for line in lines]
    kept = [(line, points) for line, points in kept if points]
    if not kept:
        return "<p>No loss was recorded.</p>"
    losses = [loss for _, points in kept for _, loss in points]
    losses += [loss for line, _ in kept for point in line.band for loss in point[1:] if 0 < loss < math.inf]
    low, high = min(losses) / 1.1, max(losses) * 1.1
    last = max(points[-1][0] for _, points in kept)
    left, right, top, bottom = 56.0, WIDTH - 190.0, 16.0, 316.0

    def place(step: float, loss: float) -> tuple[float, float]:
        share = math.log(loss / low) / math.log(high / low)
        return left + (right - left) * step / (last or 1), bottom - (bottom - top) * share

    parts = []
    for tick in _log_ticks(low, high):
        y = place(0, tick)[1]
        parts += [_rule(left, y, right, y, "grid"), _text(left - 8, y + 4, f"{tick:g}", "small", "end")]
    for step in _round_steps(last):
        parts.append(_text(place(step, high)[0], bottom + 20, f"{step:,.0f}", "small", "middle"))
    parts += [_rule(left, bottom, right, bottom, "axis"), _text(right, bottom + 40, "training step", "small", "end")]
    for line, _ in kept:
        if line.band and all(0 < loss < math.inf for point in line.band for loss in point[1:]):
            edge = [place(step, best) for step, best, _ in line.band]
            edge += [place(step, worst) for step, _, worst in reversed(line.band)]
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in edge)
            parts.append(f'<polygon points="{path}" class="band fill {line.name}"/>')
    ends = [place(*points[-1]) for _, points in kept]
    for (line, points), (x, y), level in zip(kept, ends, _apart([y for _, y in ends], 18, top, bottom), strict=True):
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(*point) for point in points))
        parts += [
            f'<polyline points="{path}" class="line {line.name}"/>',
            f'<polyline points="{x + 3:.1f},{y:.1f} {x + 12:.1f},{level:.1f} {x + 20:.1f},{level:.1f}" '
            f'class="leader {line.name}"/>',
            _text(x + 25, level + 4, line.label),
        ]
    return _svg(bottom + 48, "Training loss of each network", parts)


def branch_images(branches: Sequence[Sequence[float]], inverse: Sequence[Sequence[float]]) -> str:
    """What each branch holds of the image: column q of the coefficients (I, Q) alone, transformed back by (Q, Q)."""
    count, columns = len(branches[0]), 14
    gap, height = 10.0, 24.0
    size = (WIDTH - gap * (columns - 1)) / columns
    alone = [[[row[q] * basis[q] for basis in inverse] for row in branches] for q in range(count)]
    largest = max(abs(value) for image in alone for row in image for value in row) or 1.0
    parts = []
    for q, image in enumerate(alone):
        x, y = (q % columns) * (size + gap), (q // columns) * (size + height)
        uri = _png([[_pixel(value / largest) for value in row] for row in image])
        parts += [_picture(round(x, 1), round(y, 1), round(size, 1), uri)]
        parts.append(_text(x + size / 2, y + size + 16, str(q), "small", "middle"))
    rows = -(-count // columns)
    return _svg(rows * (size + height), "The part of the image that each branch sees", parts)


def branch_bars(networks: Sequence[tuple[str, str, Sequence[float]]], chance: float) -> str:
    """Accuracy of every branch alone, (name, label, accuracies) of each network side by side; `chance` is a line."""
    left, right, top, bottom = 52.0, WIDTH - 8.0, 12.0, 212.0
    count = max(len(accuracies) for _, _, accuracies in networks)
    slot = (right - left) / count
    thick = (slot - 8) / len(networks)

    def height(accuracy: float) -> float:
        return bottom - (bottom - top) * accuracy

    parts = []
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        y = height(tick)
        parts += [_rule(left, y, right, y, "grid"), _text(left - 8, y + 4, f"{100 * tick:.0f} %", "small", "end")]
    for i, (name, label, accuracies) in enumerate(networks):
        for q, accuracy in enumerate(accuracies):
            x, y = left + q * slot + 4 + i * thick, height(accuracy)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{thick - 1:.1f}" height="{bottom - y:.1f}" class="fill {name}">'
                f"<title>{escape(label)}, branch {q}: {accuracy:.1%}</title></rect>"
            )
    parts += [_text(left + (q + 0.5) * slot, bottom + 18, str(q), "small", "middle") for q in range(count)]
    parts += [_rule(left, bottom, right, bottom, "axis"), _rule(left, height(chance), right, height(chance), "chance")]
    return _svg(bottom + 26, "Test accuracy of every branch alone", parts)


def accuracy_bars(groups: Sequence[BarGroup]) -> str:
    """Bars on an axis spaced by the logarithm of the error, so that 98 % and 99 % stay apart and bars start at 0 %."""
    left, right, thick, top = 150.0, WIDTH - 190.0, 16.0, 12.0
    scores = [bar.accuracy for group in groups for bar in group.bars] + [g.paper for g in groups if g.paper is not None]
    best = min(max([0.9, *scores]), _LARGEST_SCORE)
    ticks = [tick for tick in (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999) if tick <= best]
    span = -math.log(1 - best) * 1.04

    def place(score: float) -> float:
        return left + (right - left) * -math.log(1 - min(max(score, 0), best)) / span

    height = sum(thick * len(group.bars) + 3 * (len(group.bars) - 1) + 18 for group in groups)
    bottom = top + height
    parts = []
    for tick in ticks:
        x = place(tick)
        parts += [_rule(x, top, x, bottom, "grid"), _text(x, bottom + 20, f"{100 * tick:g} %", "small", "middle")]
    y = top + 9
    for group in groups:
        start = y
        for bar in group.bars:
            width = place(bar.accuracy) - left
            parts.append(
                f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{thick}" rx="2" class="fill {bar.name}">'
                f"<title>{escape(bar.label)}: {bar.accuracy:.2%}</title></rect>"
            )
            label = f"{100 * bar.accuracy:.1f}"
            # past the paper's mark when that stands just right of the bar's end
            end = left + width
            near = group.paper is not None and -12 < place(group.paper) - end < 20 + 7 * len(label)
            x = (place(group.paper) if near and group.paper is not None else end) + (16 if near else 8)
            parts.append(_text(x, y + thick - 4, label, "small ink"))
            y += thick + 3
        y -= 3
        parts.append(_text(left - 12, (start + y) / 2 + 5, group.title, "", "end"))
        if group.paper is not None:
            x, middle = place(group.paper), (start + y) / 2
            parts.append(
                f"<g><title>paper: {100 * group.paper:.2f} %</title>{_rule(x, start - 4, x, y + 4, 'halo')}"
                f"{_rule(x, start - 4, x, y + 4, 'mark')}"
                f'<path d="M{x - 6:.1f} {middle:.1f} l6 -6 l6 6 l-6 6 z" class="diamond"/></g>'
            )
            parts.append(_text(WIDTH - 4, middle + 4, f"paper {100 * group.paper:.2f}", "small", "end"))
        y += 18
    parts += [_rule(left, top, left, bottom, "axis")]
    return _svg(bottom + 30, "Test accuracy of each network and weighting", parts)
