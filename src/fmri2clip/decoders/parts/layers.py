"""Residual layers and the trunk that decoders build on."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + dropout(gelu(norm(A x)))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x + layers(x), of the shape of x."""
        return x + self.layers(x)


def make_trunk(
    n_in: int, hidden: int, blocks: int, dropout_in: float, dropout_res: float
) -> nn.Sequential:
    """Encoder: (B, n_in) -> (B, hidden)."""
    layers: list[nn.Module] = [
        nn.Linear(n_in, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Dropout(dropout_in),
    ]
    for _ in range(blocks):
        layers.append(ResidualBlock(hidden, dropout_res))
    return nn.Sequential(*layers)


def make_projector(width: int, hidden: int) -> nn.Sequential:
    """MindEye1's projector, (B, width) -> (B, width): norm, gelu, and three linear layers with norm
    and gelu between them (models.py of its public code).
    """
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.GELU(),
        nn.Linear(width, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Linear(hidden, width),
    )


def make_voxel_decoder(hidden: int, n_voxels: int) -> nn.Sequential:
    """Code (B, H) -> voxels (B, V)."""
    return nn.Sequential(
        nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, n_voxels)
    )
