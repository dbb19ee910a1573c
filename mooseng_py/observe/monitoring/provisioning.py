"""What makes Grafana find Prometheus and the dashboards when it starts."""

from __future__ import annotations

DATASOURCE_UID = "mooseng"
# Where the files lie in Grafana's container, and where it finds Prometheus: by name, on the cluster's network.
DASHBOARDS_DIRECTORY = "/etc/mooseng/dashboards"
PROMETHEUS_URL = "http://prometheus:9090"

DATASOURCES = f"""\
apiVersion: 1
datasources:
  - name: MooseNG
    uid: {DATASOURCE_UID}
    type: prometheus
    access: proxy
    url: {PROMETHEUS_URL}
    isDefault: true
"""

PROVIDERS = f"""\
apiVersion: 1
providers:
  - name: MooseNG
    folder: MooseNG
    type: file
    disableDeletion: true
    options:
      path: {DASHBOARDS_DIRECTORY}
"""
