"""The contract's own manners: what every call and enum promises."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import iter_modules

from google.protobuf.descriptor import EnumDescriptor, ServiceDescriptor

import graft.v1
from graft.client.channel import _IDEMPOTENT
from graft.v1 import common_pb2, inference_pb2

# Every file of the contract: one that is added is tested.
MODULES = [
    import_module(f"graft.v1.{one.name}") for one in iter_modules(graft.v1.__path__) if one.name.endswith("_pb2")
]
FILES = [module.DESCRIPTOR for module in MODULES]
SERVICES: list[ServiceDescriptor] = [service for file in FILES for service in file.services_by_name.values()]
ENUMS: list[EnumDescriptor] = [enum for file in FILES for enum in file.enum_types_by_name.values()]
READING = re.compile(r"^(Classify|Download|Get|Grade|List|Score|Tokenize|Generate|Preview|Run|Watch)")


def test_package_directory_and_import_name_agree() -> None:
    assert {file.package for file in FILES} == {"graft.v1"}
    assert all(file.name.startswith("graft/v1/") for file in FILES)


def test_the_zero_of_every_enum_is_unspecified() -> None:
    for enum in ENUMS:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
        assert enum.values_by_number[0].name == f"{prefix}_UNSPECIFIED"


def test_every_change_carries_a_request_id() -> None:
    for service in SERVICES:
        for method in service.methods:
            if READING.match(method.name):
                continue
            fields = set(method.input_type.fields_by_name)
            fields |= {field for nested in method.input_type.fields if nested.message_type
                       for field in nested.message_type.fields_by_name}  # fmt: skip
            # A worker's words are told apart by its claim and their number.
            assert fields & {"request_id", "fence"}, method.full_name


def test_every_reply_about_text_says_who_answered() -> None:
    for message in (inference_pb2.GenerateResponse, inference_pb2.ScoreResponse):
        assert message.DESCRIPTOR.fields_by_name["answerer"].message_type is common_pb2.Answerer.DESCRIPTOR


def test_only_reading_calls_that_exist_are_retried() -> None:
    methods = {service.name: {method.name: method for method in service.methods} for service in SERVICES}
    for service, names in _IDEMPOTENT.items():
        for name in names:
            assert READING.match(name)
            assert not methods[service][name].server_streaming


def test_every_reading_call_that_answers_at_once_is_retried() -> None:
    for service in SERVICES:
        reading = {method.name for method in service.methods if READING.match(method.name)}
        streamed = {method.name for method in service.methods if method.server_streaming or method.client_streaming}
        assert set(_IDEMPOTENT.get(service.name, ())) == reading - streamed, service.full_name
