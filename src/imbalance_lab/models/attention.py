"""Multi-head attention whose weights can be read and whose heads can be switched off."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imbalance_lab.models.dropout import Dropout


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017), queries from one sequence, keys from another.

    The fused kernel is used unless the weights are asked for; both give the same output.

    Parameters
    ----------
    hidden : width H of queries, keys and output
    heads : number of attention heads, a divisor of ``hidden``
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.dropout = Dropout(dropout)

    def forward(
        self, query: Tensor, memory: Tensor, *, weights: bool = False, head_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from ``query`` (B, L, H) to ``memory`` (B, T, H).

        Returns the output (B, L, H) and, with ``weights=True``, the weights (B, heads, L, T).
        ``head_mask`` (heads,) multiplies each head's output: 0 removes the head.
        """
        b, length, hidden = query.shape

        def split(x: Tensor) -> Tensor:  # (B, S, H) -> (B, heads, S, H / heads)
            return x.view(b, -1, self.heads, hidden // self.heads).transpose(1, 2)

        q = split(self.query(query))
        k, v = (split(x) for x in self.key_value(memory).chunk(2, dim=-1))
        attention = None
        if weights:
            attention = torch.softmax(q @ k.transpose(-1, -2) * (hidden // self.heads) ** -0.5, dim=-1)
            mixed = attention @ v
        else:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        if head_mask is not None:
            mixed = mixed * head_mask.view(1, -1, 1, 1)
        return self.dropout(self.output(mixed.transpose(1, 2).reshape(b, length, hidden))), attention
