"""Networks, one a file, all with the contract of ``base``."""

from clearmark.models.base import Restoration
from clearmark.models.conv_fc import ConvFC
from clearmark.models.resnet import ResNet
from clearmark.models.unblend import Unblend
from clearmark.models.unet import UNet

__all__ = ["ConvFC", "ResNet", "Restoration", "UNet", "Unblend"]
