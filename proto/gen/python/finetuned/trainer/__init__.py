"""Generated from proto/finetuned/trainer by proto/generate.sh. Do not edit."""
