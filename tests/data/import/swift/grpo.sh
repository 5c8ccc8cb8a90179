swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-7B --reward_funcs accuracy format --dataset AI-MO/NuminaMath-TIR#1000
