"""One file an op: its definition (`reference`), its shape rule (`check`, `empty`), its gradient, its native call."""
