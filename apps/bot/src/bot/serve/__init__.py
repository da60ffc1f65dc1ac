"""The run asked over HTTP: endpoints, metrics, the view in a browser."""
