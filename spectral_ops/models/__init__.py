"""The networks of the papers, in plain torch.nn, each with the number of parameters that its paper prints."""

from .alexnet import CifarAlexNet
from .densenet import DenseNet
from .lenet import LeNet5
from .resnet18 import ResNet18
from .resnet_cifar import CifarResNet, resnet20, resnet56
from .vgg import CifarVGG, vgg16, vgg19_bn

__all__ = [
    "CifarAlexNet",
    "CifarResNet",
    "CifarVGG",
    "DenseNet",
    "LeNet5",
    "ResNet18",
    "resnet20",
    "resnet56",
    "vgg16",
    "vgg19_bn",
]
