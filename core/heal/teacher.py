"""What the original says of the training texts: computed as it is asked for, or once and kept on disk."""

import os
from pathlib import Path

import numpy as np
import torch

from core.model.load import LoadedModel
from core.model.losses import right_padded
from core.texts import Sequences

_BATCH = 16


class Teacher:
    """The original's last hidden states: its logits are the head of them, exactly, at D numbers a token in
    place of a vocabulary.
    """

    def __init__(self, loaded: LoadedModel):
        self.loaded, self.kept = loaded, None
        self.dtype: torch.dtype | None = None  # of what is kept, as it was computed

    @torch.no_grad()
    def hidden(self, numbers: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """[B, T, D] of the sequences ids [B, T]; numbers: which of the training sequences they are."""
        if self.kept is not None:
            return torch.from_numpy(self.kept[numbers.cpu().numpy()]).to(self.loaded.device, self.dtype)
        return self.loaded.head.hidden(ids.to(self.loaded.device))

    @torch.no_grad()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, V], on the device of the hidden states."""
        return self.loaded.head.logits(hidden.to(self.loaded.device)).to(hidden.device)

    @torch.no_grad()
    def _few(self, sequences: "Padded") -> torch.Tensor:
        """[1, 2, D]: what the head is applied to need not be as wide as the stream."""
        return self.loaded.head.hidden(sequences.ids[:1, :2].to(self.loaded.device))

    def bytes_of(self, sequences: "Padded") -> int:
        """What `keep` would take on disk."""
        return sequences.ids.numel() * self._few(sequences).shape[-1] * 4

    @torch.no_grad()
    def keep(self, path: Path, sequences: "Padded", report) -> None:
        """Keep the hidden states of all sequences in a file, float32 [S, T, D]: whole, or computed anew."""
        few = self._few(sequences)
        if not path.exists():
            staging = path.with_name(f".{path.name}")
            shape = (*sequences.ids.shape, few.shape[-1])
            found = np.lib.format.open_memmap(staging, mode="w+", dtype=np.float32, shape=shape)
            for start in range(0, len(found), _BATCH):
                ids = sequences.ids[start : start + _BATCH].to(self.loaded.device)
                found[start : start + _BATCH] = self.loaded.head.hidden(ids).float().cpu().numpy()
                report(min(start + _BATCH, len(found)), len(found), "the original reads the texts")
            found.flush()
            os.replace(staging, path)
        self.kept, self.dtype = np.load(path, mmap_mode="r"), few.dtype


class Padded(torch.utils.data.Dataset):
    """Sequences as a model reads them, padding on the right: {number, ids [T], scored [T]} each; real
    bool [S, T]: no padding.
    """

    def __init__(self, sequences: Sequences):
        mask, scored = (
            None if a is None else torch.from_numpy(a) for a in (sequences.mask, sequences.scored)
        )
        self.ids, counts = right_padded(torch.from_numpy(sequences.ids), mask, scored)
        self.scored = torch.ones_like(self.ids, dtype=torch.bool) if counts is None else counts
        lengths = torch.full((len(self.ids),), self.ids.shape[1]) if mask is None else mask.sum(dim=1)
        self.real = torch.arange(self.ids.shape[1]) < lengths[:, None]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(number), "ids": self.ids[number], "scored": self.scored[number]}
