"""Triton kernels, one file an op. Installed as `spectral_ops.triton_kernels`; only those files import triton."""
