"""A world in a box: real services, sidecars and certificates, a training run, and its faults."""
