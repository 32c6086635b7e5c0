"""What one pass over a batch brings."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EngineOutput:
    """Profiles, logits and embeddings of one batch, detached, on the model's device.

    Attributes:
        profiles: [B, F] raw profiles, float32 (float64 for a float64 model).
        logits: [B, C] of the same type.
        embeddings: [B, E], what the final classifier layer sees, of the same type; None where the
            logits do not come straight from one linear layer.
    """

    profiles: Tensor
    logits: Tensor
    embeddings: Tensor | None

    def __post_init__(self) -> None:
        parts = (self.profiles, self.logits, self.embeddings)
        for part in parts:
            if part is not None and (part.dim() != 2 or len(part) != len(self.logits)):
                raise ValueError(f"expected one row per sample, got shape {tuple(part.shape)}")

    @classmethod
    def joined(cls, parts: list["EngineOutput"]) -> "EngineOutput":
        """Put the parts of a batch together, in order."""
        if len(parts) == 1:
            return parts[0]
        embeddings = [part.embeddings for part in parts if part.embeddings is not None]
        return cls(
            torch.cat([part.profiles for part in parts]),
            torch.cat([part.logits for part in parts]),
            torch.cat(embeddings) if len(embeddings) == len(parts) else None,
        )
