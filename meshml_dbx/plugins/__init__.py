"""Doors for programs that call us: MLflow finds its plugin here by its entry point."""
