swift rlhf \
    --rlhf_type kto \
    --model Qwen/Qwen2.5-7B-Instruct \
    --train_type lora \
    --dataset ../data/labels.json \
    --beta 0.2 --desirable_weight 1.5 \
    --gradient_accumulation_steps 8
