"""The networks of the papers, in plain torch.nn, each with the number of parameters that its paper prints."""

from .densenet import DenseNet
from .resnet_cifar import CifarResNet, resnet20, resnet56

__all__ = ["CifarResNet", "DenseNet", "resnet20", "resnet56"]
