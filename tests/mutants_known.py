"""Mutants that change no number, each with the reason: module, function, change."""

from __future__ import annotations

KNOWN: dict[tuple[str, str, str], str] = {}
