"""`python -m mooseng_py.observe.monitoring.generate`: write dashboards, rules, provisioning and docs/metrics.md."""

from __future__ import annotations

from pathlib import Path

from . import document, panels, provisioning
from .alerts import alerts
from .alerts import render as render_rules
from .dashboards import boards

ROOT = Path(__file__).parents[3]


def files() -> dict[str, str]:
    """Every generated file below the project's root, and its text."""
    rules = alerts()
    made = {f"infra/monitoring/grafana/dashboards/{board.name}.json": panels.render(board) for board in boards()}
    return made | {
        "infra/monitoring/grafana/provisioning/dashboards/mooseng.yaml": provisioning.PROVIDERS,
        "infra/monitoring/grafana/provisioning/datasources/mooseng.yaml": provisioning.DATASOURCES,
        "infra/monitoring/prometheus/rules.yml": render_rules(rules),
        "docs/metrics.md": document.render(rules),
    }


def main() -> None:
    for name, text in files().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(name)


if __name__ == "__main__":
    main()
