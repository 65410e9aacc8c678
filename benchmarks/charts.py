"""Bars of requests a second, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

WIDTH, BAR, HEAD = 9.0, 0.28, 0.45  # inches: of a picture, of a bar, of what is above and below those of a panel
ACROSS = 2  # panels


class Look(NamedTuple):
    label: str
    color: str


OURS, OTHER = "#d95f02", "#777777"
LOOKS = {
    "serve": Look("serve()", OURS),
    "epoll_loop": Look("asyncio.Protocol, epoll_loop", "#e6ab02"),
    "uvloop": Look("asyncio.Protocol, uvloop", "#7570b3"),
    "C epoll": Look("bare C", OTHER),
    "examples/redis_server.py": Look("examples/redis_server.py", OURS),
    "redis-server": Look("redis-server", OTHER),
}


def draw(title: str, panels: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """A panel for each of `panels`, which has a rate for each contestant, and a scale of its own. OSError."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "epoll_loop"  # the same picture for the same numbers
    from matplotlib import pyplot

    names = [name for name in LOOKS if any(name in panel for panel in panels.values())]
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    size = WIDTH, HEAD + down * (HEAD + BAR * len(names))
    # White, so that it can be read on a dark page as well.
    figure, grid = pyplot.subplots(down, across, figsize=size, squeeze=False, layout="constrained", facecolor="white")
    figure.suptitle(f"{title}: requests a second")
    figure.get_layout_engine().set(w_pad=0.1)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (name, rates) in zip(grid.flat, panels.items(), strict=False):
        bars = axes.barh(names, [rates.get(n, 0) for n in names], 0.75, color=[LOOKS[n].color for n in names])
        axes.bar_label(bars, labels=[f"{rates[n]:,.0f}" if n in rates else "" for n in names], padding=3, fontsize=9)
        axes.set_title(name, fontsize=10)
        axes.set_yticks(names, [LOOKS[n].label for n in names])
        axes.tick_params(left=False, labelleft=axes in grid[:, 0])
        axes.set_xlim(0, 1.3 * max(rates.values()))  # room for the numbers
        axes.set_xticks([])  # each bar has its own
        axes.invert_yaxis()
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
