"""The event loops measured: side by side (``python -m benchmarks``) and counted (``….instructions``)."""
