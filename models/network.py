"""The detector's network: one soft alignment of target to source tokens, and what it says of how the target was made.

Shape suffixes: B pairs, S source tokens, T target tokens, D embedding width, H hidden width, F row features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 64
_FAR = 1e4


class Embedding(nn.Module):
    """Fixed multilingual vectors plus a learned difference, which training drops at random.

    A network that also works without the differences keeps working for the words of languages that it was never
    trained on, whose vectors have none.
    """

    def __init__(self, vectors_VD: npt.NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("fixed", torch.from_numpy(vectors_VD))
        self.difference = nn.Embedding(vectors_VD.shape[0], vectors_VD.shape[1], sparse=True)
        nn.init.zeros_(self.difference.weight)

    def forward(self, ids_BL: Tensor, use_difference_B: Tensor | None = None) -> Tensor:
        difference_BLD = self.difference(ids_BL)
        if use_difference_B is not None:
            difference_BLD = difference_BLD * use_difference_B[:, None, None]
        vectors_BLD = functional.embedding(ids_BL, self.get_buffer("fixed")) + difference_BLD
        masked_BLD: Tensor = vectors_BLD * (ids_BL != 0)[..., None]
        return masked_BLD

    def merged(self) -> npt.NDArray[np.float32]:
        """The vectors that scoring uses, shape (V, D)."""
        weight_VD: npt.NDArray[np.float32] = (self.get_buffer("fixed") + self.difference.weight).detach().numpy()
        weight_VD[0] = 0
        return weight_VD


class Aligner(nn.Module):
    """From embedded tokens and row features to one logit a pair: positive means machine-written."""

    def __init__(self, features: int, width: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.diagonal = nn.Parameter(torch.tensor(5.0))
        self.token = nn.Linear(3 * width + 4, hidden)
        self.pair = nn.Linear(2 * hidden + 4 + features, 64)
        self.out = nn.Linear(64, 1)
        self.product_scale = 5.0  # brings products of unit vectors' components to the others' size
        with torch.no_grad():  # begin as a plain comparison of word vectors
            self.query.weight.mul_(0.3).add_(torch.eye(width) * 7)
            self.query.bias.zero_()

    def forward(
        self, source_BSD: Tensor, target_BTD: Tensor, source_BS: Tensor, target_BT: Tensor, features_BF: Tensor
    ) -> Tensor:
        """`source_BS`, `target_BT`: 1.0 at tokens, 0.0 at padding, where vectors are 0; the result has shape B."""
        source_count_B1 = source_BS.sum(1, keepdim=True).clamp(min=1)
        target_count_B1 = target_BT.sum(1, keepdim=True).clamp(min=1)
        source_place_BS = torch.arange(source_BS.shape[1]) / source_count_B1
        target_place_BT = torch.arange(target_BT.shape[1]) / target_count_B1
        # -g (p - q)^2 without its term in p alone, as a product of two vectors; softmax does not see that term
        place_BT2 = torch.stack([2 * self.diagonal * target_place_BT, torch.ones_like(target_place_BT)], -1)
        place_B2S = torch.stack(
            [source_place_BS, -self.diagonal * source_place_BS * source_place_BS - (1 - source_BS) * _FAR], 1
        )
        score_BTS = self.query(target_BTD) @ source_BSD.transpose(1, 2) + place_BT2 @ place_B2S
        weight_BTS = score_BTS.softmax(-1)
        seen_BTD = weight_BTS @ source_BSD
        seen_place_BT = (weight_BTS @ source_place_BS[..., None])[..., 0]
        jump_BT = seen_place_BT - functional.pad(seen_place_BT, (1, 0))[:, :-1]
        details_BT4 = torch.stack(
            [score_BTS.amax(-1) * 0.2, weight_BTS.amax(-1), seen_place_BT - target_place_BT, jump_BT], -1
        )
        product_BTD = target_BTD * seen_BTD
        if self.product_scale != 1:
            product_BTD = product_BTD * self.product_scale
        token_BTC = torch.cat([target_BTD, seen_BTD, product_BTD, details_BT4], -1)
        hidden_BTH = functional.relu(self.token(token_BTC)) * target_BT[..., None]
        mean_BH = hidden_BTH.sum(1) / target_count_B1
        covered_BS = (score_BTS - (1 - target_BT)[..., None] * _FAR).amax(1)
        covered_B1 = (covered_BS * source_BS).sum(1, keepdim=True) / source_count_B1 * 0.2
        lengths_B3 = torch.cat(
            [torch.log(source_count_B1) - torch.log(target_count_B1), source_count_B1.log(), target_count_B1.log()], 1
        )
        pair_BP = torch.cat([mean_BH, hidden_BTH.amax(1), covered_B1, lengths_B3, features_BF], -1)
        logit_B: Tensor = self.out(functional.relu(self.pair(pair_BP)))[:, 0]
        return logit_B

    def fold(self, scale_D: Tensor) -> None:
        """Change the weights so that vectors divided by `scale_D` give the same logits, and products are not scaled."""
        width = len(scale_D)
        with torch.no_grad():
            self.query.weight.mul_(scale_D[:, None] * scale_D)
            self.query.bias.mul_(scale_D)
            self.token.weight[:, :width].mul_(scale_D)
            self.token.weight[:, width : 2 * width].mul_(scale_D)
            self.token.weight[:, 2 * width : 3 * width].mul_(scale_D * scale_D * self.product_scale)
        self.product_scale = 1.0


class Detector(nn.Module):
    """Embedding and aligner, as they are trained together."""

    def __init__(self, vectors_VD: npt.NDArray[np.float32], features: int) -> None:
        super().__init__()
        self.embedding = Embedding(vectors_VD)
        self.aligner = Aligner(features, width=vectors_VD.shape[1])

    def forward(
        self, source_BS: Tensor, target_BT: Tensor, features_BF: Tensor, use_difference_B: Tensor | None = None
    ) -> Tensor:
        """Logits from word ids (0 is padding) and standardised row features; shape B."""
        logit_B: Tensor = self.aligner(
            self.embedding(source_BS, use_difference_B),
            self.embedding(target_BT, use_difference_B),
            (source_BS != 0).float(),
            (target_BT != 0).float(),
            features_BF,
        )
        return logit_B
