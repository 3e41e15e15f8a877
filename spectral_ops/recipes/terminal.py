"""A recipe's results as one table for the terminal: a column a network, the paper's numbers, if any, in the last."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

_RULES = ("average", "weighted_sum", "geometric", "select_best", "learned")
_TIMES = (("step", "training step, ms"), ("inference", "1,000 inferences, ms"))


def results_table(results: dict[str, Any]) -> Table:
    """Size, accuracy by weighting, and speed with its ratios, of every network that ran."""
    nets, paper = results["networks"], results["paper"]
    speed = {row["name"]: row for row in results["speed"]}
    table = Table(
        title=results["title"],
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for net in nets:
        table.add_column(net["title"].replace(", ", ",\n").replace(" (", "\n("), justify="right", no_wrap=True)
    if paper:
        table.add_column("paper", justify="right", no_wrap=True)

    def row(title: str, cells: list[str], printed: str = "") -> None:
        table.add_row(title, *cells, *[printed] * bool(paper))

    def compression(net: dict[str, Any], key: str) -> str:
        value = (net["compression"] or {}).get(key)
        return "-" if value is None else f"{value:,.0f}x" if value >= 100 else f"{value:.1f}x"

    def bound(key: str) -> str:
        """Table 2's value at the paper's rank, the largest of the networks'."""
        bounds = [value for net in nets if (value := (net["compression"] or {}).get(key))]
        return f"{max(bounds):,.0f}x" if bounds else ""

    dense = next((net for net in nets if net["name"] == "dense"), None)
    fewer = [f"{dense['operations'] / n['operations']:.1f}x" if dense and n is not dense else "-" for n in nets]
    row("parameters", [f"{net['parameters']:,}" for net in nets])
    row("operations an image", [f"{net['operations']:,}" for net in nets])
    row("  fewer than dense", fewer)
    if "bounds" in results:
        row("compression, hidden", [compression(net, "hidden_weight") for net in nets], bound("hidden_bound"))
    whole = "  whole network" if "bounds" in results else "compression"
    row(whole, [compression(net, "whole") for net in nets])
    row("  select the best", [compression(net, "best_branch") for net in nets], bound("best_bound"))
    table.add_section()
    singles = [f"{100 * net['accuracy']['test']:.1f}" if "test" in net["accuracy"] else "" for net in nets]
    if any(singles):
        printed = [f"{paper[net['name']]:.2f}" for net in nets if net["name"] in paper]
        row("test accuracy, %", singles, "/".join(printed))
    if any(net["accuracy_logits"] for net in nets):
        row("  probability/logits", ["" for _ in nets])
        for rule in _RULES:
            cells = [_both(net, rule) if net["accuracy_logits"] else "" for net in nets]
            row(f"  {rule.replace('_', ' ')}", cells, f"{paper[rule]:.2f}" if rule in paper else "")
    for kind, title in _TIMES:
        table.add_section()
        ms = [speed[net["name"]][f"{kind}_ms"] for net in nets]
        row(title, ["" for _ in nets])
        for contender, label in (("eager", "eager"), ("compile", "torch.compile"), ("ours", "spectral_ops")):
            row(f"  {label}", [_ms(times[contender]) for times in ms])
        row("  against the better", [_ratio(best(times) / times["ours"] if times["ours"] else None) for times in ms])
        row("  against dense", [_ratio(speed[net["name"]][f"dense_{kind}_ratio"]) for net in nets])
        row("  noise (A/A)", [f"{times['noise']:.1%}" for times in ms])
    return table


def best(ms: dict[str, float | None]) -> float:
    """The faster of eager and compile: the baseline of every ratio."""
    return min(t for t in (ms["eager"], ms["compile"]) if t is not None)


def _both(net: dict[str, Any], rule: str) -> str:
    return f"{100 * net['accuracy'][rule]:.1f}/{100 * net['accuracy_logits'][rule]:.1f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}x"
