"""What happened: one call as the proxy logged it and MLflow knows it, in frozen values."""
