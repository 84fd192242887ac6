"""The tables of parameters in the documentation, made of `colorization/config.py`.

A hook of MkDocs: `mkdocs.yml` names it, and it fills the page that has the line `MARK`.
"""

from typing import Any

from colorization.config import GROUPS, SCHEDULE, VARIANTS, owners, tunable_fields
from colorization.fields import expected

MARK = "<!-- parameters: filled by scripts/parameters.py -->"
HEAD = "| parameter | values | default | what it is |\n|---|---|---|---|"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page's text with the tables in place of the mark."""
    return markdown.replace(MARK, tables())


def tables() -> str:
    """Return a Markdown table for each group of parameters."""
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    names = list(owners())
    sections = []
    for group in GROUPS:
        rows = [_row(name) for name in names if group_of.get(name, SCHEDULE) == group]
        if rows:
            sections.append("\n".join([f"### {group[0].upper()}{group[1:]}\n", HEAD, *rows]))
    return "\n\n".join(sections)


def _row(name: str) -> str:
    """Return a parameter's row: name, values, defaults, help."""
    having = {
        variant: (getattr(config, name), spec)
        for variant, config in VARIANTS.items()
        for spec in tunable_fields(config)
        if spec.name == name
    }
    texts = dict.fromkeys(spec.metadata["help"] for _, spec in having.values())
    ranges = dict.fromkeys(expected(spec) for _, spec in having.values())
    defaults = _defaults({variant: value for variant, (value, _) in having.items()})
    text = "; ".join(texts)
    if len(having) < len(VARIANTS):
        text += f" (only {', '.join(f'`{variant}`' for variant in having)})"
    return f"| `{name}` | {'; '.join(ranges)} | {defaults} | {text} |"


def _defaults(values: dict[str, Any]) -> str:
    """Return the commonest default, and the others with the variants that have them."""
    variants: dict[Any, list[str]] = {}
    for variant, value in values.items():
        variants.setdefault(value, []).append(f"`{variant}`")
    common = max(variants, key=lambda value: len(variants[value]))
    others = [f"`{each}` in {', '.join(variants[each])}" for each in variants if each != common]
    return "<br>".join([f"`{common}`", *others])
