swift rlhf \
    --rlhf_type dpo \
    --model Qwen/Qwen2.5-7B-Instruct \
    --train_type full \
    --dataset ../data/pairs.json \
    --beta 0.2 --loss_type hinge \
    --deepspeed zero2
