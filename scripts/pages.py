"""Generated parts of the documentation pages, which stand between two marks."""

from __future__ import annotations


def filled(page: str, begin: str, end: str, body: str) -> str:
    """``page`` with ``body`` between the marks. Ends the program if it lacks them."""
    head, begun, rest = page.partition(begin)
    _, ended, tail = rest.partition(end)
    if not begun or not ended:
        raise SystemExit(f"the page lacks the marks '{begin}' and '{end}'")
    body = body.strip("\n")
    return f"{head}{begin}\n\n{body}\n\n{end}{tail}"
