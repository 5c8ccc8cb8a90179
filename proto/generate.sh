#!/bin/sh
# Writes proto/gen/python anew from the .proto files: messages, service stubs, their types, and the comments.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-../.venv/bin/python}
bin=$(dirname "$python")
target=${1:-gen/python}
# Made beside its place and moved there whole: whatever runs meanwhile never finds half of it.
out=$target.new
rm -rf "$out" && mkdir -p "$out"
PATH="$bin:$PATH" "$python" -m grpc_tools.protoc -I . -I third_party \
    --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
    --include_source_info --descriptor_set_out="$out/descriptors" \
    $(find finetuned -name '*.proto' | LC_ALL=C sort)
"$python" comments.py < "$out/descriptors" > "$out/finetuned/v1/comments.json"
rm "$out/descriptors"
# Stubs only where there is a service.
find "$out" -name "*_pb2_grpc.py*" ! -name "*_service_pb2_grpc.py*" -delete
for package in finetuned finetuned/v1 finetuned/trainer finetuned/trainer/v1; do
    printf '"""Generated from proto/%s by proto/generate.sh. Do not edit."""\n' "$package" > "$out/$package/__init__.py"
done
touch "$out/finetuned/py.typed"
rm -rf "$target" && mv "$out" "$target"
