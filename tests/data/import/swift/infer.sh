swift infer --adapters output/checkpoint-100 --stream true --temperature 0
