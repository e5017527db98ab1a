"""The services that later playgrounds and dashboards need: they come up and answer."""

NAMES = ("mysql", "elasticsearch", "prometheus", "grafana", "metrics")
