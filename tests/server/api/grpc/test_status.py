"""However many reasons a refusal has, its status fits the trailers that gRPC clients take (8 KiB by default)."""

from __future__ import annotations

from google.rpc import error_details_pb2

from graft.adapters.errors import InvalidAdapter, Reason
from graft.server.api.faults import fault_of
from graft.server.api.grpc.status import status_of


def test_a_thousand_reasons_fit() -> None:
    reasons = [
        Reason(field=f"adapter_model.safetensors:model.layers.{number}", problem="ü" * 300, remedy="ß" * 300)
        for number in range(1000)
    ]
    status = status_of(fault_of(InvalidAdapter("the adapter's files are broken", reasons)))
    percent_encoded = sum(1 if byte < 0x80 else 3 for byte in status.message.encode())
    assert status.ByteSize() + percent_encoded < 8000
    request = error_details_pb2.BadRequest()
    assert sum(each.Unpack(request) for each in status.details) == 1
    assert len(request.field_violations) >= 4
    assert "more of the kind" in request.field_violations[-1].description


def test_few_reasons_are_all_said() -> None:
    reasons = [Reason(field=f"f{number}", problem="is wrong", remedy="mend it") for number in range(5)]
    request = error_details_pb2.BadRequest()
    for packed in status_of(fault_of(InvalidAdapter("broken", reasons))).details:
        packed.Unpack(request)
    assert [each.field for each in request.field_violations] == ["f0", "f1", "f2", "f3", "f4"]
