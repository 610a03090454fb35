"""Residual networks for small images: ResNet-20 and ResNet-32 (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 convolution, three stages of `depth` blocks, the mean over the image, a linear layer.

    The second and third stage halve the image. Where the shape changes, the shortcut is a 1x1
    convolution with batch norm, which is He et al.'s option B. Their CIFAR networks have option A, without
    weights; with it ResNet-32 has 461,872 prunable weights. The pruning literature counts 464,432, and
    1,855,584 at double width (Wang et al. 2020), which is option B.

    Args:
        in_channels: of the image.
        classes: the number of logits.
        channels: of the three stages; the papers' (16, 32, 64), and (32, 64, 128) at double width.
        depth: blocks per stage; the network is called ResNet-(6 depth + 2).
    """

    def __init__(self, in_channels: int, classes: int, channels: Sequence[int], depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.stage1 = _stage(channels[0], channels[0], 1, depth)
        self.stage2 = _stage(channels[0], channels[1], 2, depth)
        self.stage3 = _stage(channels[1], channels[2], 2, depth)
        self.fc = nn.Linear(channels[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        # A plain mean: the backward of adaptive pooling is not deterministic on CUDA.
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def _stage(channels_in: int, channels_out: int, stride: int, depth: int) -> nn.Sequential:
    rest = (Block(channels_out, channels_out, 1) for _ in range(depth - 1))
    return nn.Sequential(Block(channels_in, channels_out, stride), *rest)
