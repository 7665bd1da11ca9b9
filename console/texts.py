"""Texts that stand in code and are shown by a template: marked here, translated there."""


def mark(text: str) -> str:
    """Mark a text for those who translate the pages; `make texts` finds it, `_(…)` in a template translates it."""
    return text
