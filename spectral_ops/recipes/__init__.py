"""The papers' experiments, runnable: data, networks, training, timing and the report. `spectral demo` is the front door."""
