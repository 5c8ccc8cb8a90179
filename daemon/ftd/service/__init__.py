"""The public API: one module per service, each a thin shell that converts, calls the queue and converts back.

Protobuf types live here and in `ftd.wire`. A method raises an error of `ftd.errors`; `ftd.service.errors` is the only
place that turns one into a gRPC status.
"""
