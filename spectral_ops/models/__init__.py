"""The networks of the papers, in plain torch.nn, each with the number of parameters that its paper prints."""

from .alexnet import CifarAlexNet
from .crelu import CReLUDenseNet, CReLUResNet
from .deeplab import DeepLabV3Plus
from .densenet import DenseNet
from .lenet import LeNet5
from .mobilenetv2 import MobileNetV2
from .published import PUBLISHED, Published
from .resnet18 import ResNet18
from .resnet_cifar import CifarResNet, resnet20, resnet56
from .resnet_imagenet import ResNet, resnet50, resnet101
from .shufflenetv2 import ShuffleNetV2
from .vgg import CifarVGG, vgg16, vgg19_bn

__all__ = [
    "PUBLISHED",
    "CReLUDenseNet",
    "CReLUResNet",
    "CifarAlexNet",
    "CifarResNet",
    "CifarVGG",
    "DeepLabV3Plus",
    "DenseNet",
    "LeNet5",
    "MobileNetV2",
    "Published",
    "ResNet",
    "ResNet18",
    "ShuffleNetV2",
    "resnet20",
    "resnet50",
    "resnet56",
    "resnet101",
    "vgg16",
    "vgg19_bn",
]
