"""Write `docs/parameters.md`, which is made of `colorization/config.py`.

python -m scripts.parameters
"""

from colorization.config import GROUPS, SCHEDULE, VARIANTS, owners, tunable_fields
from colorization.fields import expected
from colorization.paths import ROOT

PAGE = ROOT / "docs" / "parameters.md"
ABOVE = """# Parameters

*Made of `colorization/config.py` by `python -m scripts.parameters`. Do not edit.*

Defaults are those of most variants; others are named. `data` is on [its own page](data.md),
`start_from` on [weights](weights.md), `resume` and `checkpoint_every` on
[stop and resume](resume.md). `register=no` keeps a run out of the registry."""
HEAD = "| parameter | values | default | what it is |\n|---|---|---|---|"


def page() -> str:
    """Return the page: a table for each group of parameters."""
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    names = list(owners())
    sections = [ABOVE]
    for group in GROUPS:
        rows = [_row(name) for name in names if group_of.get(name, SCHEDULE) == group]
        if rows:
            sections.append("\n".join([f"## {group[0].upper()}{group[1:]}\n", HEAD, *rows]))
    return "\n\n".join(sections) + "\n"


def _row(name: str) -> str:
    """Return a parameter's row: name, values, defaults, help."""
    having = {
        variant: (getattr(config, name), spec)
        for variant, config in VARIANTS.items()
        for spec in tunable_fields(config)
        if spec.name == name
    }
    ranges = _grouped({variant: expected(spec) for variant, (_, spec) in having.items()})
    defaults = _grouped({variant: f"`{value}`" for variant, (value, _) in having.items()})
    text = _grouped({variant: spec.metadata["help"] for variant, (_, spec) in having.items()})
    if len(having) < len(VARIANTS):
        text += f" (only {', '.join(f'`{variant}`' for variant in having)})"
    return f"| `{name}` | {ranges} | {defaults} | {text} |"


def _grouped(texts: dict[str, str]) -> str:
    """Return the commonest text, and the others with the variants that have them."""
    variants: dict[str, list[str]] = {}
    for variant, text in texts.items():
        variants.setdefault(text, []).append(f"`{variant}`")
    common = max(variants, key=lambda text: len(variants[text]))
    others = [f"{each} in {', '.join(variants[each])}" for each in variants if each != common]
    return "<br>".join([common, *others])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
