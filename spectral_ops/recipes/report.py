"""One self-contained HTML page from a recipe's results: no script, no link, no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from .charts import (
    Bar,
    BarGroup,
    Line,
    accuracy_bars,
    branch_bars,
    branch_images,
    digit_and_branches,
    digit_and_parts,
    loss_curves,
)  # fmt: skip

_WEIGHTINGS = {
    "average": "average",
    "weighted_sum": "weighted sum",
    "geometric": "geometric",
    "select_best": "select the best",
    "learned": "learned",
}
_CHANCE = 0.1  # ten classes
_PAPER_IMAGES = 60_000  # what the paper trained on
_LIGHT = """--page: #fcfcfb; --ink: #16181d; --soft: #5a6069; --line: #dfe1e4; --faint: #f3f4f5;
  --dense: #767b84; --tnn: #d38a00; --spectral: #2a78d6; --spectral-r8: #14946a;"""
_DARK = """--page: #15171b; --ink: #eceef1; --soft: #a2a9b4; --line: #32363d; --faint: #1d2025;
  --dense: #8f959f; --tnn: #d99a2b; --spectral: #4c95ea; --spectral-r8: #2bb087;"""
_STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", sans-serif; }}
main {{ max-width: 1040px; margin: 0 auto; padding: 48px 28px 72px; }}
h1 {{ font-size: 30px; line-height: 1.2; margin: 0 0 12px; letter-spacing: -0.01em; text-wrap: balance; }}
h2 {{ font-size: 20px; line-height: 1.3; margin: 52px 0 6px; }}
p {{ margin: 0 0 14px; max-width: 740px; text-wrap: pretty; }}
.lead {{ font-size: 19px; line-height: 1.5; max-width: 860px; }}
p.below {{ margin: 22px 0 0; }}
.soft, caption, figcaption {{ color: var(--soft); font-size: 14px; }}
figure {{ margin: 18px 0 0; overflow-x: auto; }}
svg {{ display: block; width: 100%; min-width: 700px; height: auto; font-size: 14px; }}
.legend {{ display: flex; flex-wrap: wrap; gap: 4px 22px; font-size: 14px; margin: 12px 0 0; padding: 0; }}
.legend li {{ list-style: none; }}
.legend i {{ display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 7px; }}
.legend i.diamond {{ background: var(--ink); border-radius: 0; width: 9px; height: 9px; transform: rotate(45deg); }}
.scroll {{ overflow-x: auto; margin: 14px 0 10px; }}
table {{ border-collapse: collapse; width: 100%; font-size: 15px; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; padding-bottom: 6px; }}
th, td {{ padding: 7px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; font-weight: 500; }}
thead th {{ color: var(--soft); font-weight: 500; font-size: 13px; line-height: 1.3; vertical-align: bottom; }}
@media (max-width: 900px) {{ table {{ font-size: 14px; }} th, td {{ padding: 6px 5px; }} }}
td b {{ font-weight: 650; }}
td small {{ color: var(--soft); }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 3px 20px; margin: 12px 0; font-size: 15px; }}
dt {{ color: var(--soft); }}
dd {{ margin: 0; }}
ul.notes {{ padding-left: 20px; max-width: 740px; }}
ul.notes li {{ margin-bottom: 6px; }}
text {{ fill: var(--ink); }}
text.small {{ fill: var(--soft); font-size: 13px; }}
text.small.ink {{ fill: var(--ink); }}
text.strong {{ font-weight: 600; }}
.pixels {{ image-rendering: pixelated; }}
.frame {{ fill: none; stroke: var(--line); }}
.grid {{ stroke: var(--line); }}
.band {{ opacity: 0.13; }}
.chance {{ stroke: var(--ink); stroke-dasharray: 4 4; }}
.axis, .hair, .arrow {{ stroke: var(--soft); }}
.solid {{ fill: var(--soft); }}
.line {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
.leader {{ fill: none; stroke-width: 1.2; }}
.halo {{ stroke: var(--page); stroke-width: 5; }}
.mark {{ stroke: var(--ink); stroke-width: 1.5; }}
path.diamond {{ fill: var(--ink); stroke: var(--page); stroke-width: 1.5; }}
""" + "".join(
    f".fill.{name} {{ fill: var(--{name}); }} .line.{name}, .leader.{name} {{ stroke: var(--{name}); }} "
    f"i.{name} {{ background: var(--{name}); }}\n"
    for name in ("dense", "tnn", "spectral", "spectral-r8")
)


def _times(ratio: float | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.1f}×" if ratio >= 10 else f"{ratio:.2f}×"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table from cells that are HTML already."""
    title = f"<caption>{caption}</caption>" if caption else ""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _best(network: dict[str, Any]) -> tuple[str, float]:
    """The weighting with the highest test accuracy, and that accuracy."""
    return max(network["accuracy"].items(), key=lambda item: item[1])


def _spectral(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [network for network in results["networks"] if network["name"] not in ("dense", "tnn")]


def _named(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((row for row in rows if row["name"] == name), None)


def _summary(results: dict[str, Any]) -> str:
    """The page's one sentence: accuracy, parameters and the training step of the best spectral network."""
    spectral, dense = _spectral(results), _named(results["networks"], "dense")
    if not spectral:
        return "No spectral network was trained."
    network = max(spectral, key=lambda candidate: _best(candidate)[1])
    weighting, accuracy = _best(network)
    text = f"{network['title']} ({_WEIGHTINGS.get(weighting, weighting)}) reaches {accuracy:.1%} on the test images"
    if dense is not None:
        text += f" against {_best(dense)[1]:.1%} for the dense network"
    gains = []
    if network.get("compression"):
        gains.append(f"{_times(network['compression']['whole'])} fewer parameters" + ("" if dense else " than dense"))
    row = _named(results.get("speed", []), network["name"])
    ratio = row.get("dense_step_ratio") if row else None
    if ratio:
        gains.append(
            f"training steps {_times(ratio)} faster" if ratio >= 1 else f"training steps {1 / ratio:.2f}× slower"
        )
    if gains:
        text += ", with " + " and ".join(gains)
    return escape(text + ".")


def _images(images: dict[str, Any]) -> str:
    names = (f"A test digit: {images['label']}", f"Its {len(images['branches'][0])} spectral branches (columns)")
    chart = digit_and_branches(images["digit"], images["branches"], names)
    return (
        "<h2>What a branch sees</h2><p>The DCT of every image row turns 28 pixels into 28 coefficients. Branch "
        "<i>q</i> is a small network of its own, and all that it sees of the image is column <i>q</i>: one frequency, "
        f"one number a row.</p><figure>{chart}</figure>"
        '<p class="below">The same columns, each transformed back alone: the image is the sum of these.</p>'
        f"<figure>{branch_images(images['branches'], images['inverse'])}</figure>"
    )


def _parts(parts: dict[str, Any]) -> str:
    chart = digit_and_parts(parts["digit"], [(part["title"], part["values"]) for part in parts["branches"]])
    return (
        f"<h2>What a branch sees</h2><p>A test digit, {parts['label']}, and what the transform makes of it: blue is "
        f"positive, red negative, on a logarithmic scale; of complex values the modulus.</p><figure>{chart}</figure>"
    )


def _curves(networks: Sequence[dict[str, Any]]) -> str:
    lines = [Line(n["name"], n["title"], n["curve"], n["band"] if n["branch_accuracy"] else ()) for n in networks]
    chart = loss_curves(lines)
    return (
        '<h2>Training loss</h2><p class="soft">Cross entropy on the training batches, logarithmic. For the spectral '
        "networks it is the mean over the branches, in a band from the best to the worst: each classifies from its own "
        f"part of the spectrum alone, and the loss of their averaged probabilities is lower than the mean.</p>"
        f"<figure>{chart}</figure>"
    )


def _accuracy(results: dict[str, Any]) -> str:
    networks, printed = results["networks"], results.get("paper", {})

    def paper(key: str) -> float | None:
        return printed[key] / 100 if key in printed else None

    groups = [
        BarGroup(title, [Bar(name, network["title"], network["accuracy"]["test"])], paper(name))
        for name, title in (("dense", "dense"), ("tnn", "tNN"))
        if (network := _named(networks, name)) is not None
    ]
    for key, title in _WEIGHTINGS.items():
        bars = [
            Bar(network["name"], network["title"], network["accuracy"][key])
            for network in _spectral(results)
            if key in network["accuracy"]
        ]
        if bars:
            groups.append(BarGroup(title, bars, paper(key)))
    legend = "".join(f'<li><i class="{n["name"]}"></i>{escape(n["title"])}</li>' for n in networks)
    mark = '<li><i class="diamond"></i>printed in the paper (Table 3, MNIST)</li>' if printed else ""
    return (
        f"<h2>Accuracy by weighting</h2><p>How the branches' votes are combined, on "
        f"{results['settings']['test']:,} test images.</p>"
        '<p class="soft">The axis is spaced by the logarithm of the error: halving the error moves a bar by the same '
        f'length anywhere.</p><ul class="legend">{legend}{mark}</ul><figure>{accuracy_bars(groups)}</figure>'
        + _spaces(results)
        + _branches(results)
    )


def _spaces(results: dict[str, Any]) -> str:
    """Accuracies by what is averaged; the bars above are the probabilities'."""
    networks = _spectral(results)
    if not networks:
        return ""
    head, printed = ["weighting"], results.get("paper", {})
    head += [f"{escape(n['title'])},<br>{space}" for n in networks for space in ("probabilities", "logits")]
    head += ["paper"] * bool(printed)
    rows = []
    for key, title in _WEIGHTINGS.items():
        cells = [f"{100 * n[space][key]:.1f}" for n in networks for space in ("accuracy", "accuracy_logits")]
        rows.append([title, *cells, *[f"{printed[key]:.2f}" if key in printed else "–"] * bool(printed)])
    text = "Test accuracy in %, averaging the branches' probabilities (eq. 18, as above) or their logits"
    return _table(head, rows, text)


def _branches(results: dict[str, Any]) -> str:
    networks = [(n["name"], n["title"], n["branch_accuracy"]) for n in _spectral(results)]
    if not networks:
        return ""
    legend = "".join(f'<li><i class="{name}"></i>{escape(title)}</li>' for name, title, _ in networks)
    return (
        '<h2>Every branch alone</h2><p class="soft">Test accuracy of each branch by its number, under most transforms '
        "0 the coarsest. One part of the spectrum is little to tell a digit by: hence an ensemble. Dashed: "
        f'guessing.</p><ul class="legend">{legend}</ul><figure>{branch_bars(networks, _CHANCE)}</figure>'
    )


def _of(bound: float | None) -> str:
    return f" <small>of {bound:,.0f}</small>" if bound is not None else ""


def _sizes(results: dict[str, Any]) -> str:
    dense = _named(results["networks"], "dense")
    bounded = "bounds" in results
    head = ["network", "parameters", "operations<br>an image", "fewer<br>than dense"]
    head += ["compression:<br>hidden weight", "whole<br>network"] if bounded else ["compression:<br>whole network"]
    head += ["select<br>the best", "training<br>seconds"]
    rows = []
    for network in results["networks"]:
        rate, operations = network.get("compression") or {}, network["operations"]
        fewer = _times(dense["operations"] / operations) if dense and dense is not network and operations else "–"
        cells = [escape(network["title"]), f"{network['parameters']:,}", f"{operations:,}", fewer]
        cells += [_times(rate.get("hidden_weight")) + _of(rate.get("hidden_bound"))] if bounded else []
        cells.append(_times(rate.get("whole")))
        cells += [_times(rate.get("best_branch")) + _of(rate.get("best_bound"))]
        rows.append([*cells, f"{network['seconds']:.1f}"])
    counted = [
        f"{_times(n['compression']['weights'])} for {escape(n['title'])}"
        for n in _spectral(results)
        if n["compression"]
    ]
    weights = f" (weights alone: {', '.join(counted)})" if counted else ""
    bounds = ""
    if bounded:
        bounds = f"<p><b>In the paper.</b> {escape(results['bounds'].replace('^2', '²'))}.</p>"
        weights = (
            "The bounds count one hidden weight; the whole network also has biases and a last layer that compresses "
            f"less{weights}. "
        )
    return (
        "<h2>Size</h2>"
        + _table(head, rows, "Compression: the dense network's parameters over this one's.")
        + bounds
        + f'<p class="soft">{weights if bounded else ""}Operations are multiply-adds of real numbers, with the '
        "transform. Select the best: what is left where one branch alone is kept.</p>"
    )


def _speed_rows(speed: Sequence[dict[str, Any]], kind: str, dense_ratio: str) -> list[list[str]]:
    rows = []
    for row in speed:
        times = row[kind]
        ours, noise = times.get("ours"), times.get("noise")
        others = [times[key] for key in ("eager", "compile") if times.get(key) is not None]
        gain = min(others) / ours if others and ours else None
        ratio = f"<b>{_times(gain)}</b>" if gain else "–"
        if gain and noise and abs(gain - 1) <= noise:
            ratio = f"{_times(gain)} <small>(within noise)</small>"
        spread = f" <small>± {noise:.1%}</small>" if ours is not None and noise is not None else ""
        cells = [escape(row["title"]), _ms(times.get("eager")), _ms(times.get("compile")), _ms(ours) + spread]
        rows.append([*cells, ratio, _times(row.get(dense_ratio)) if ours is not None else "–"])
    return rows


def _speed(results: dict[str, Any]) -> str:
    speed = results.get("speed", [])
    if not speed:
        return ""
    head = ["network", "eager", "torch.compile", "spectral_ops", "against the better<br>of the two", "against<br>dense"]
    count = results["machine"].get("threads", "?")
    threads = f"{count} thread" + ("" if count == 1 else "s")
    step = f"One training step, ms: batch of {results['settings']['batch_size']}, {threads}"
    text = "<h2>Speed</h2>" + _table(head, _speed_rows(speed, "step_ms", "dense_step_ratio"), step)
    inference = _speed_rows(speed, "inference_ms", "dense_inference_ratio")
    text += _table(head, inference, f"Inference, ms per 1,000 images, {threads}")
    reasons = dict.fromkeys(row["compile_note"] for row in speed if row.get("compile_note"))
    notes = "".join(f" Why torch.compile is missing: {escape(reason.rstrip('.'))}." for reason in reasons)
    return (
        text
        + '<p class="soft">All networks ran on this machine in the same session. Eager and torch.compile run the same '
        "network with the same parameters, written with PyTorch's batched products; a step is forward, loss, backward "
        "and Adam. A ratio above 1 means that spectral_ops is faster; ± is the relative difference of two "
        f"measurements of the same thing.{notes}</p>"
    )


def _machine(machine: dict[str, Any]) -> str:
    labels = {
        "cpu": "processor",
        "cpu_level": "kernel level",
        "torch": "PyTorch",
        "python": "Python",
    }
    pairs = "".join(
        f"<dt>{escape(labels.get(key, key))}</dt><dd>{escape(str(value))}</dd>" for key, value in machine.items()
    )
    return f"<h2>Machine and versions</h2><dl>{pairs}</dl>"


def _notes(results: dict[str, Any]) -> str:
    settings = results["settings"]
    few = f" The paper trained on {_PAPER_IMAGES:,}, so its accuracies are a landmark and not a target for this run."
    notes = [
        f"{settings['data']}: {settings['train']:,} images for training, {settings['held_out']:,} held out, "
        f"{settings['test']:,} for the test." + (few if results["paper"] and settings["train"] < _PAPER_IMAGES else ""),
        f"{settings['optimizer']}, learning rate {settings['lr']}, {settings['epochs']} epochs, batches of "
        f"{settings['batch_size']}, seed {settings['seed']}: one run, no average over seeds. "
        f"On {settings['test']:,} test images one standard error at 97 % is "
        f"{100 * (0.97 * 0.03 / max(settings['test'], 1)) ** 0.5:.1f} points; smaller differences mean little.",
        "The learned weights are fitted on the held-out images, the other weightings come from the training losses; "
        "none has seen the test images.",
    ]
    notes += [f"{network['title']}: {network['lr_note']}" for network in results["networks"] if network.get("lr_note")]
    if settings.get("quick"):
        notes.insert(0, "This was a quick run: it shows that everything works, and its numbers are not for comparison.")
    return '<h2>How to read this</h2><ul class="notes">' + "".join(f"<li>{escape(n)}</li>" for n in notes) + "</ul>"


def write_report(results: dict[str, Any], path: Path) -> None:
    """Write the page that shows `results` (a recipe's dict, JSON-able) to `path`.

    Units: accuracies in [0, 1] (`paper` in percent), times in ms (inference per 1,000 images), their `noise`
    relative, operations in multiply-adds an image, curves as (step, mean training loss). None is shown as a dash.
    """
    title = escape(results["title"])
    about = f"<p>{escape(results['about'])}</p>" if "about" in results else ""
    body = [
        f'<h1>{title}</h1><p class="lead">{_summary(results)}</p>{about}',
        _images(results["images"]) if "images" in results else _parts(results["parts"]),
        _curves(results["networks"]),
        _accuracy(results),
        _sizes(results),
        _speed(results),
        _machine(results["machine"]),
        _notes(results),
    ]
    path.write_text(page(results["title"], "".join(body)), encoding="utf-8")


def page(title: str, body: str) -> str:
    """A whole HTML page in the reports' style."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )
