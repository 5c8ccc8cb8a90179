"""Generated from proto/finetuned/v1 by proto/generate.sh. Do not edit."""
