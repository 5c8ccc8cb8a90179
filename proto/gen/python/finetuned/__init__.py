"""Generated from proto/finetuned by proto/generate.sh. Do not edit."""
