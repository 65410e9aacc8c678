"""Bars of requests a second, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OURS = ("serve", "examples/redis_server.py")
OTHERS = ("#1b9e77", "#7570b3", "#999999", "#e7298a")


def draw(title: str, groups: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """A group of bars for each of `groups`, which has a rate for each contestant. OSError."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "epoll_loop"  # the same picture for the same numbers
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.3 * len(names) * len(groups)), layout="constrained")
    width = 0.8 / len(names)
    others = [name for name in names if name not in OURS]
    colors = dict(zip(others, OTHERS, strict=False)) | dict.fromkeys(OURS, "#d95f02")
    for i, name in enumerate(names):
        places = [number + i * width for number, group in enumerate(groups.values()) if name in group]
        rates = [group[name] for group in groups.values() if name in group]
        bars = axes.barh(places, rates, width, label=name, color=colors[name])
        axes.bar_label(bars, labels=[f"{rate:,.0f}" for rate in rates], padding=3, fontsize=8)
    axes.set_yticks([number + 0.4 - width / 2 for number in range(len(groups))], list(groups))
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xlabel("requests a second")
    axes.set_xticks([])  # each bar has its number
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.margins(x=0.15)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
