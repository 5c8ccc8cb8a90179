#!/bin/bash
# Settings of the file can be changed behind its name.
CUDA_VISIBLE_DEVICES=0,1 FORCE_TORCHRUN=1 llamafactory-cli train lora_sft.yaml \
    learning_rate=2e-5 \
    lora_rank=16 lora_target=q_proj,v_proj
