swift pt --model Qwen/Qwen2.5-7B --train_type full --dataset ../data/texts.jsonl --packing true --max_length 4096 --use_hf
