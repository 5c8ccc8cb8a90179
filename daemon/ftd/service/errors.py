"""From our errors to google.rpc.Status, in one interceptor around every method of ours.

An error of `ftd.errors` says its code, reason and message; a spec's violations become BadRequest details. Anything
else is a bug: it is logged with its trace under an id, and the client learns the id and nothing more.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from ftd.errors import FtdError, InvalidSpec

log = structlog.get_logger(__name__)

DOMAIN = "finetuned"
_OURS = "/finetuned.v1."

Context = grpc.aio.ServicerContext[Any, Any]
# Generic for the type checker alone.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the methods of our services; health and reflection are left as they are."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """The method's handler with its errors converted."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_OURS):
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _streaming(handler.unary_stream, method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                _unary(handler.stream_unary, method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _unary(handler.unary_unary, method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _unary(behaviour: Any, method: str) -> Any:
    async def call(request: Message, context: Context) -> Any:
        try:
            return await behaviour(request, context)
        except Exception as error:
            await _abort(context, error, method)

    return call


def _streaming(behaviour: Any, method: str) -> Any:
    async def call(request: Message, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(request, context):
                yield response
        except Exception as error:
            await _abort(context, error, method)

    return call


async def _abort(context: Context, error: Exception, method: str) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    await context.abort_with_status(rpc_status.to_status(to_status(error, method)))


def to_status(error: Exception, method: str) -> status_pb2.Status:
    """The status a client sees for `error`."""
    if not isinstance(error, FtdError) or error.code == "INTERNAL":
        number = secrets.token_hex(6)
        log.error("a call failed", method=method, error_id=number, exc_info=error)
        return _status("INTERNAL", "INTERNAL", f"internal error, id {number}; the daemon's log has the details")
    status = _status(error.code, error.reason, str(error))
    if isinstance(error, InvalidSpec):
        problems = error_details_pb2.BadRequest()
        for violation in error.violations:
            problems.field_violations.add(field=violation.field, description=violation.description)
        status.details.add().Pack(problems)
    return status


def _status(code: str, reason: str, message: str) -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    return status
