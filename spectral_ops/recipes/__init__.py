"""The papers' experiments, runnable: data, networks, training, timing, report. `spectral demo` is the front door."""
