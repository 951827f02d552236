"""What this process calls, written by itself."""
