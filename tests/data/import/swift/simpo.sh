swift rlhf --rlhf_type simpo --model Qwen/Qwen2.5-7B-Instruct --train_type lora --dataset ../data/pairs.json
