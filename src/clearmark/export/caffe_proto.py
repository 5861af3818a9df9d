"""The part of Caffe's file format that is used here, declared to protobuf.

Names and numbers of fields are those of caffe.proto as OpenCV reads it (modules/dnn/src/caffe).
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELDS = {
    "BlobShape": "1 dim int64*",
    "BlobProto": "7 shape BlobShape, 5 data float*",
    "ConcatParameter": "2 axis int32",
    "ConvolutionParameter": (
        "1 num_output uint32, 2 bias_term bool, 3 pad uint32+, 4 kernel_size uint32+, "
        "5 group uint32, 6 stride uint32+, 18 dilation uint32+"
    ),
    "CropParameter": "1 axis int32, 2 offset uint32+",
    "ELUParameter": "1 alpha float",
    "EltwiseParameter": "1 operation EltwiseOp",
    "FlattenParameter": "1 axis int32",
    "InnerProductParameter": "1 num_output uint32, 2 bias_term bool",
    "PermuteParameter": "1 order uint32+",
    "PoolingParameter": (
        "1 pool PoolMethod, 5 kernel_h uint32, 6 kernel_w uint32, 7 stride_h uint32, "
        "8 stride_w uint32, 9 pad_h uint32, 10 pad_w uint32, 12 global_pooling bool, "
        "13 ceil_mode bool"
    ),
    "PowerParameter": "1 power float, 2 scale float, 3 shift float",
    "ReLUParameter": "1 negative_slope float",
    "ReshapeParameter": "1 shape BlobShape",
    "ScaleParameter": "1 axis int32, 4 bias_term bool",
    "SliceParameter": "3 axis int32, 2 slice_point uint32+",
    "LayerParameter": (
        "1 name string, 2 type string, 3 bottom string+, 4 top string+, 7 blobs BlobProto+, "
        "104 concat_param ConcatParameter, 106 convolution_param ConvolutionParameter, "
        "144 crop_param CropParameter, 140 elu_param ELUParameter, "
        "110 eltwise_param EltwiseParameter, 135 flatten_param FlattenParameter, "
        "117 inner_product_param InnerProductParameter, 148 permute_param PermuteParameter, "
        "121 pooling_param PoolingParameter, 122 power_param PowerParameter, "
        "123 relu_param ReLUParameter, 133 reshape_param ReshapeParameter, "
        "142 scale_param ScaleParameter, 126 slice_param SliceParameter"
    ),
    "NetParameter": (
        "1 name string, 3 input string+, 8 input_shape BlobShape+, 100 layer LayerParameter+"
    ),
}
"""Message -> its fields: number, name and type; ``+`` for many, ``*`` for many packed together."""

ENUMS = {"EltwiseOp": ("PROD", "SUM", "MAX"), "PoolMethod": ("MAX", "AVE", "STOCHASTIC")}


def net_parameter() -> Any:
    """A class of Caffe's networks."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for field in fields.split(", "):
            _add(described, *field.split(" "))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def _add(message: descriptor_pb2.DescriptorProto, number: str, name: str, kind: str) -> None:
    many, bare = kind[-1] in "+*", kind.rstrip("+*")
    field = message.field.add(name=name, number=int(number), label=3 if many else 1)
    if bare in FIELDS:
        field.type, field.type_name = field.TYPE_MESSAGE, f".caffe.{bare}"
    elif bare in ENUMS:
        field.type, field.type_name = field.TYPE_ENUM, f".caffe.{message.name}.{bare}"
        enum = message.enum_type.add(name=bare)
        for value, choice in enumerate(ENUMS[bare]):
            enum.value.add(name=choice, number=value)
    else:
        field.type = getattr(field, f"TYPE_{bare.upper()}")
    if kind[-1] == "*":
        field.options.packed = True
