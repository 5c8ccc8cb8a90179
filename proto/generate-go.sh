#!/bin/sh
# Writes clients/go/finetuned/v1 anew from the .proto files of the public package: messages and service stubs for Go.
# The plugins are the tools of clients/go/go.mod, so their versions are pinned there.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-../.venv/bin/python}
go=${GO:-go}
module=../clients/go
target=${1:-$module/finetuned}
# Made beside its place and moved there whole: whatever runs meanwhile never finds half of it.
out=$target.new
rm -rf "$out" && mkdir -p "$out"
"$python" -m grpc_tools.protoc -I . -I third_party \
    --plugin=protoc-gen-go="$("$go" -C $module tool -n protoc-gen-go)" \
    --plugin=protoc-gen-go-grpc="$("$go" -C $module tool -n protoc-gen-go-grpc)" \
    --go_out="$out" --go_opt=module=finetuned.dev/go/finetuned \
    --go-grpc_out="$out" --go-grpc_opt=module=finetuned.dev/go/finetuned \
    $(find finetuned/v1 -name '*.proto' | LC_ALL=C sort)
rm -rf "$target" && mv "$out" "$target"
