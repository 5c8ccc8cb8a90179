"""The daemon: an asyncio gRPC server that queues, places, starts and follows fine-tuning jobs. Never imports torch."""
