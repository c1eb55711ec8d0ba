"""The generated part of documents/benchmarks.md. Pure."""

from collections.abc import Iterable
from typing import Final

from bench import comparison, table, tuning
from bench.peers.catalogue import PEERS
from bench.results import Description, Results
from bench.systems import COMPARED, peer_series

BEGIN: Final = "<!-- figures: written by python -m bench.report -->"
END: Final = "<!-- end of figures -->"
REPEATS: Final = 5
"""From so many on a full run is one to quote."""


def replaced(page: str, figures: str) -> str:
    """``page`` with its figures replaced. Raises ValueError when it has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def render(results: Results, *, picture: str) -> str:
    """Markdown: what it was measured on, ours beside the peers and what they keep, our figures, how each is
    measured."""
    parts = [_caveat(results), _place(results), f"![Throughput and latency]({picture})"]
    for each in comparison.tables(results):
        parts += [f"### {each.title}", table.markdown(each.header, each.rows)]
    if results.peer_versions:
        parts += ["### What each keeps", _peers(results)]
    parts += ["### Figures of ours", _figures(results)]
    if failures := results.failures():
        parts += ["### What failed", "A median is taken over the repeats that succeeded.", _list(failures)]
    parts += [
        "### How it is measured",
        _list(f"**{name}**: {each.how}. {_settings_of(each)}" for name, each in results.descriptions.items()),
    ]
    return "\n\n".join(part for part in parts if part)


def _caveat(results: Results) -> str:
    if results.size == "full" and results.repeats >= REPEATS:
        return ""
    return (
        f"**A {results.size} run with {results.repeats} repeat(s): it shows that everything runs, not how fast.** "
        "`make bench` takes figures to quote."
    )


def _place(results: Results) -> str:
    """Machine, versions, date, command."""
    facts = {
        "date": results.started_at,
        "command": f"`{results.command}`",
        "commit": results.commit,
        "before": results.before,
        "machine": ", ".join(f"{name} {value}" for name, value in results.machine.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in results.versions.items()),
        "peers": ", ".join(f"{name} {value}" for name, value in results.peer_versions.items()),
        "PostgreSQL": ", ".join(f"{name}={value}" for name, value in results.postgres.items()),
        "settings of every scenario": tuning.told(results.settings),
    }
    return table.markdown(("", ""), [(name, value) for name, value in facts.items() if value])


def _figures(results: Results) -> str:
    return table.markdown(table.HEADER, table.rows(results))


def _peers(results: Results) -> str:
    body = [
        (f"{peer.name} {results.peer_versions.get(peer.packages[0], '')}", peer.keeps, peer.settings)
        for peer in PEERS
        if any(peer_series(peer.name, kind) in results.series for kind in peer.kinds)
    ]
    ours = ("Aftercommit", comparison.OURS_KEEPS, f"one worker process; {_our_settings(results)}")
    return table.markdown(("", "keeps", "settings"), [ours, *body])


def _our_settings(results: Results) -> str:
    """What is set for the scenarios whose figures stand beside the peers'."""
    compared = [(name, results.descriptions.get(name)) for name in COMPARED]
    return "; ".join(f"{name}: {tuning.told(each.settings)}" for name, each in compared if each is not None)


def _settings_of(description: Description) -> str:
    return f"Settings: {tuning.told(description.settings)}."


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
