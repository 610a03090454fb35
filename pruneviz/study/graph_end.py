"""How the graph of a sweep has ended: done, stopped, never run, or refused by a worker or by Snakemake itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MOST_CHARACTERS = 500


@dataclass(frozen=True)
class GraphEnd:
    """What is known when Snakemake has ended.

    Attributes:
        went_well: whether Snakemake found nothing amiss.
        started: whether any worker was started.
        refusal: what cannot be used, as a worker or Snakemake says it; empty if all can.
    """

    went_well: bool = False
    started: bool = False
    refusal: str = ""


def read_end(status: int, plan: Mapping[str, Any], log: Path) -> GraphEnd:
    """Tell the cases apart.

    Args:
        status: Snakemake's exit status; minus the signal if one has ended it.
        plan: of the sweep.
        log: what Snakemake has said, if that is not on the screen.
    """
    started, refusal = Path(plan["started"]).exists(), Path(plan["refusal"])
    said = refusal.read_text(encoding="utf-8") if refusal.exists() else ""
    if status > 0 and not started and not said:
        reason = last_error(log.read_text(encoding="utf-8", errors="replace"))
        said = f"Snakemake has ended before any job was started: {reason or 'what it said is above'}"
    return GraphEnd(status == 0, started, said)


def last_error(log: str) -> str:
    """The last error in a log of Snakemake as one line: from where it is named to the end; else the last line."""
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    named = [number for number, line in enumerate(lines) if re.search(r"^\S*(Error|Exception)\b|\berror: ", line)]
    words = " ".join(lines[named[-1] if named else -1 :])
    words = re.sub(r"^\S+: error: ", "", words)
    return words if len(words) <= _MOST_CHARACTERS else f"{words[:_MOST_CHARACTERS]} ..."
