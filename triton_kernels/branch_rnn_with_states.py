"""branch_rnn_with_states on the GPU: the kernel of branch_rnn, which stores every state."""

from .branch_rnn import plan, why_not

__all__ = ["plan", "why_not"]
