"""The host in figures: its nodes, the settings that control reclaim, and how complete the figures are.

Facts are values with a tone (:class:`mmwatch.display.spans.Span`). Plain text leaves the tone out; the screen shows it
as colour and sign.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from mmwatch.display.spans import Line, Span, Tone, text_of
from mmwatch.display.text import cells, fit, join
from mmwatch.display.tones import PRESSURE_WARN_PCT
from mmwatch.model.accounting import Accounting
from mmwatch.model.interval import Node
from mmwatch.model.measures import PATHS
from mmwatch.model.nodes import elsewhere
from mmwatch.model.rows import SUMS
from mmwatch.model.snapshot import Snapshot
from mmwatch.units import clean, count_text, ns_text, pages_text

NODES_MAX = 8
"""If there are more nodes than this, only the worst have a line."""
_SEGMENT = 4  # cells of the gauge between two watermarks
_GAUGE_TITLE = "0   min  low  high   "


def host_lines(
    snapshot: Snapshot, width: int | None, cumulative: Accounting | None = None, finding: str = ""
) -> list[str]:
    """The header of a block of text.

    :param width: of the terminal; None for no limit.
    :param cumulative: the account since the start, shown below that of the interval.
    :param finding: what the diagnosis found, in one line.
    """
    session = snapshot.session
    parts = [local_time(snapshot.interval.end_s), clean(session.hostname) or "?", clean(session.kernel) or "?"]
    parts.append(f"interval {snapshot.duration_s:.2f}s")
    cost = snapshot.interval.cost
    if cost.cpu_ns or cost.rss_bytes:
        share = 100 * cost.cpu_ns / max(snapshot.interval.duration_ns, 1)
        parts.append(f"mmwatch {_percent(share)} {pages_text(cost.rss_bytes, 1)}")
    lines = join(parts, width)
    if session.filter:
        lines.append(fit(f"only {filter_text(session.filter)}", width))
    lines += [fit(text_of(line), width) for line in node_lines(snapshot)]
    lines += [fit(finding, width)] if finding else elsewhere_lines(snapshot, width)
    lines += join([fact.text for fact in state_facts(snapshot)], width)
    lines.append(accounting_line(snapshot.accounting, width))
    if cumulative is not None:
        lines.append(accounting_line(cumulative, width, "so far  "))
    return lines


def local_time(time_s: float, zone: bool = False) -> str:
    """``2026-11-23 12:11:25``, with the zone as ``+0100`` if asked for."""
    local = datetime.fromtimestamp(time_s).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S %z" if zone else "%Y-%m-%d %H:%M:%S")


def filter_text(chosen: Mapping[str, Any]) -> str:
    """The filter of a session, clean: ``pid 123 children, comm python3``."""
    words = []
    for name, value in chosen.items():
        if value is True:
            words.append(clean(name))
        elif value not in (None, False, "", [], ()):
            values = value if isinstance(value, (list, tuple)) else [value]
            words.append(f"{clean(name)} {','.join(clean(str(one)) for one in values)}")
    return ", ".join(words) or "a part"


# ---- nodes ----


def gauge(node: Node) -> str:
    """Free memory between the watermarks, 21 cells: ``[####m####l##..h....]``; empty if unknown.

    Each of the four stretches (to min, low, high, twice high) has the same width, so the marks never move.
    """
    height = free_height(node)
    if height is None:
        return ""
    filled = height * _SEGMENT
    bars = ["".join("#" if s * _SEGMENT + c + 0.5 <= filled else "." for c in range(_SEGMENT)) for s in range(4)]
    return f"[{bars[0]}m{bars[1]}l{bars[2]}h{bars[3]}]"


def free_height(node: Node) -> float | None:
    """Free memory in watermarks: 1 at min, 2 at low, 3 at high, 4 at twice high and above; None if unknown."""
    if node.free_pages is None or node.min_pages is None or node.low_pages is None or node.high_pages is None:
        return None
    marks = (0, node.min_pages, node.low_pages, node.high_pages, 2 * node.high_pages)
    for below, (start, end) in enumerate(zip(marks, marks[1:])):
        if node.free_pages < end:
            return below + (node.free_pages - start) / (end - start)
    return 4.0


def node_lines(snapshot: Snapshot, most: int = NODES_MAX) -> list[Line]:
    """A title and a line for each NUMA node, or for the worst ones if there are more than ``most``.

    The tone of the node's number shows its state: bad below min or if kswapd gave up, a warning below low.
    """
    interval, size = snapshot.interval, snapshot.session.page_size
    if not interval.nodes:
        return [[Span("NODE  unknown: no /proc/zoneinfo", Tone.TITLE)]]
    rates = node_rates(snapshot)
    shown = list(interval.nodes)
    if len(shown) > most:
        # The least free; if all have plenty, those with the most reclaim. Then by number, so that lines do not move.
        shown.sort(key=lambda node: (_or_high(free_height(node)), -(rates[node.node] or 0), node.node))
        shown = sorted(shown[: most - 1], key=lambda node: node.node)
    title = f"NODE  FREE  {_GAUGE_TITLE}   MIN   LOW  HIGH  FILE  ANON RECL/s" + "  KSWAPD" * bool(interval.kswapd)
    lines: list[Line] = [[Span(title, Tone.TITLE)]]
    for node in shown:
        tone = _node_tone(node, interval.kswapd.get(node.node))
        pages = (node.min_pages, node.low_pages, node.high_pages, node.file_pages, node.anon_pages)
        rest = "".join(f"  {pages_text(value, size):>4}" for value in pages) + f" {count_text(rates[node.node]):>6}"
        rest += f"  {clean(interval.kswapd.get(node.node, '-'))}" if interval.kswapd else ""
        lines.append(
            [
                Span(f"{node.node:4}", tone),
                Span(f"  {pages_text(node.free_pages, size):>4}  "),
                Span(f"{gauge(node):{len(_GAUGE_TITLE)}}", Tone.BAR if tone is Tone.PLAIN else tone),
                Span(rest),
            ]
        )
    rest_of = [node for node in interval.nodes if node not in shown]
    if rest_of:
        low = sum(1 for node in rest_of if _or_high(free_height(node)) < 3)
        text = f" ... {len(rest_of)} more nodes, {low or 'none'} of them below the high watermark"
        lines.append([Span(text, Tone.DIM)])
    return lines


def _node_tone(node: Node, kswapd: str | None) -> Tone:
    height = free_height(node)
    if kswapd == "gave up" or (height is not None and height < 1):
        return Tone.BAD
    return Tone.WARN if height is not None and height < 2 else Tone.PLAIN


def _or_high(height: float | None) -> float:
    return 5.0 if height is None else height


def node_rates(snapshot: Snapshot) -> dict[int, float | None]:
    """Pages reclaimed per second, by node; None if unknown."""
    rows, nodes = snapshot.interval.rows, [node.node for node in snapshot.interval.nodes]
    if snapshot.session.unknown.intersection(SUMS["reclaimed_pages"]):
        return dict.fromkeys(nodes)
    pages = np.asarray(sum(rows[name] for name in SUMS["reclaimed_pages"]))
    sums = np.bincount(rows["node"] + 1, pages, max(nodes) + 2)  # node -1 is unknown
    return {node: float(sums[node + 1]) / max(snapshot.duration_s, 1e-9) for node in nodes}


def elsewhere_lines(snapshot: Snapshot, width: int | None) -> list[str]:
    """What was reclaimed from one node while another had memory to spare: the sentence an incident report needs."""
    size = snapshot.session.page_size
    lines: list[str] = []
    for node, found in sorted(elsewhere(snapshot.interval).items()):
        had = f"node {found.free_node} had {pages_text(found.free_pages, size)} free"
        if found.reclaimed_pages:
            line = f"! {had} while node {node} gave up {found.reclaimed_pages} pages in {ns_text(found.stall_ns)}"
        else:
            line = f"! {had} while {found.futile} reclaims on node {node} freed nothing in {ns_text(found.stall_ns)}"
        # Wrapped, never cut: the end matters most.
        lines += [line] if width is None else textwrap.wrap(line, max(width, 20), subsequent_indent="  ")
    return lines if width is None else [fit(line, width) for line in lines]


# ---- what controls reclaim ----


def state_facts(snapshot: Snapshot) -> list[Span]:
    """Settings and host figures that control or explain reclaim, one span each."""
    session, interval = snapshot.session, snapshot.interval
    settings = {**session.settings, **interval.settings}
    tone = _mode_tone(snapshot, settings)
    advice = " (0 lets tasks use the other node)" if tone is Tone.BAD else ""
    return [
        Span(f"zone_reclaim_mode {_setting(settings, 'zone_reclaim_mode', 'none')}{advice}", tone),
        Span(f"LRU {_lru(settings)}"),
        _pressure(interval.pressure),
        Span(f"kswapd {_kswapd(snapshot)}"),
        Span(f"refaults {_refaults(snapshot)}"),
    ]


def _setting(settings: Mapping[str, Any], name: str, absent: str) -> str:
    """``absent`` if the kernel has no such setting, ``?`` if it was not read."""
    value = settings.get(name, "?")
    return absent if value is None else clean(str(value))


def _mode_tone(snapshot: Snapshot, settings: Mapping[str, Any]) -> Tone:
    """A mode above 0 is a warning; it is bad if tasks reclaimed their node while another had memory to spare."""
    mode = settings.get("zone_reclaim_mode")
    if not isinstance(mode, int) or not mode:
        return Tone.PLAIN
    rows = snapshot.interval.rows
    own = set(rows["node"][(rows["path"] == PATHS.index("node")) & (rows["reclaims"] > 0)].tolist())
    return Tone.WARN if own.isdisjoint(elsewhere(snapshot.interval)) else Tone.BAD


def _lru(settings: Mapping[str, Any]) -> str:
    enabled = settings.get("lru_gen_enabled", "?")
    if enabled == "?":
        return "?"
    return "MGLRU" if isinstance(enabled, int) and enabled & 1 else "classic"


def _pressure(pressure: Mapping[str, float]) -> Span:
    if "some_avg10" not in pressure:
        return Span("PSI off")
    some, full = (pressure.get(name) for name in ("some_avg10", "full_avg10"))
    warn = some is not None and some >= PRESSURE_WARN_PCT
    return Span(f"PSI some {_percent(some)} full {_percent(full)}", Tone.WARN if warn else Tone.PLAIN)


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}%"


def _kswapd(snapshot: Snapshot) -> str:
    """From /proc/vmstat, which counts kswapd regardless of any filter (per zone up to 4.8, hence the prefix)."""
    steals, scans = (
        [grown for name, grown in snapshot.interval.vmstat.items() if name.startswith(prefix)]
        for prefix in ("pgsteal_kswapd", "pgscan_kswapd")
    )
    if not steals or not scans:
        return "?"
    if not sum(scans):
        return "idle"
    return f"frees {count_text(sum(steals) / max(snapshot.duration_s, 1e-9))}/s"


def _refaults(snapshot: Snapshot) -> str:
    """Pages per second, on the whole host, that were refaulted soon after they had been reclaimed."""
    pages = snapshot.accounting.refaulted_pages
    return "?" if pages is None else f"{count_text(pages / max(snapshot.duration_s, 1e-9))}/s"


# ---- the account ----


def accounting_line(accounting: Accounting, width: int | None, label: str = "") -> str:
    """How complete the figures are: pages seen against pages counted by /proc/vmstat, and everything known missing.

    Losses are named; ``nothing lost`` means that all of them are known to be zero. A narrow terminal gets fewer digits,
    never a different claim.
    """
    for long, digits in ((True, 20), (False, 20), (False, 5)):
        line = f"{label}{_shares(accounting, long, digits)}  {_losses(accounting)}"
        if width is None or cells(line) <= width:
            return line
    return fit(line, width)


def _shares(accounting: Accounting, long: bool, digits: int) -> str:
    if accounting.incomparable:
        return f"accounted: not comparable ({clean(accounting.incomparable)})"
    seen, counted = accounting.reclaimed_pages, accounting.vmstat_reclaimed_pages
    pages = f"{_number(seen, digits)} of {_number(counted, digits)}{' pages,' if long else ''}"
    edge = edge_text(seen, counted, accounting.edge_pages, digits)
    scanned = share_text(accounting.scanned_pages, accounting.vmstat_scanned_pages)
    scan_edge = accounting.edge_scanned_pages
    if scan_edge is not None and accounting.vmstat_scanned_pages and accounting.scanned_pages is not None:
        scanned += f" {edge_text(accounting.scanned_pages, accounting.vmstat_scanned_pages, scan_edge, digits)}"
    return f"accounted {share_text(seen, counted)} ({pages} {edge})  scanned {scanned}"


def edge_text(seen: int | None, counted: int | None, edge_pages: int, digits: int = 20) -> str:
    """``±12``, or ``within ±12`` if the sums differ by no more: then no page is known to be lost."""
    edge = f"±{_number(edge_pages, digits)}"
    return f"within {edge}" if seen is not None and counted is not None and within(seen, counted, edge_pages) else edge


def within(seen: int, counted: int, edge_pages: int) -> bool:
    """Whether the sums differ, but not by more than they may."""
    return 0 < abs(seen - counted) <= edge_pages


def _number(value: int | None, digits: int = 20) -> str:
    return "?" if value is None else count_text(value, digits)


def share_text(part: int | None, whole: int | None) -> str:
    """Percent with two decimals. 100.00 means exactly all: it differs if a single page is missing or extra."""
    if part is None or whole is None:
        return "?"
    if not whole:
        return "-"
    hundredths = 10_000 * part // whole if part <= whole else -(-10_000 * part // whole)
    return f"{hundredths // 100}.{hundredths % 100:02}%"


def _losses(accounting: Accounting) -> str:
    loss = accounting.loss
    counts: list[tuple[str, list[int | None]]] = [
        ("lost", [sum(loss.lost.values())]),
        ("suppressed", [sum(loss.suppressed.values())]),
        ("missed", [loss.missed_runs]),
        ("no-end", [loss.unmatched_begin]),
        ("no-begin", [loss.unmatched_end]),
        ("table-full", [loss.table_full]),
    ]
    shown = [
        f"{name} {'/'.join(map(_number, values))}" for name, values in counts if any(value != 0 for value in values)
    ]
    under_way = f", {loss.under_way} under way at the start" if loss.under_way else ""
    return f"{' '.join(shown) or 'nothing lost'}{under_way}"
