"""Generated from proto/finetuned/trainer/v1 by proto/generate.sh. Do not edit."""
