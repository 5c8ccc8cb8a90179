"""What is made of a finished training beside its plain folder: a merged model, GGUF files, an Ollama Modelfile."""
