"""A ResNet-18 for small images, so that no benchmark needs torchvision."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions beside a short cut (He et al. 2016, figure 2)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            *(nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)),
        )
        self.cut: nn.Module = nn.Identity()
        if stride > 1 or before != width:
            self.cut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, height, width) -> (batch, width, height / stride, width / stride)."""
        return torch.relu(self.way(x) + self.cut(x))


def resnet(width: int, classes: int) -> nn.Module:
    """ResNet-18 for small images (He et al. 2016); the paper's `width` is 64."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    before = width
    for wide, stride in ((1, 1), (2, 2), (4, 2), (8, 2)):
        layers += [Block(before, wide * width, stride), Block(wide * width, wide * width, 1)]
        before = wide * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
