"""Dashboards, alert rules and the page of metrics, made from the registry: `python -m mooseng_py.observe.monitoring.generate`.

Only the dashboards need grafana-foundation-sdk; whoever runs a cluster uses the committed files in infra/monitoring.
"""
