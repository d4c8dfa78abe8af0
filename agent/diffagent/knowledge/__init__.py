"""What is known of each acceleration method: a folder each, which plans, prompts and code are made from."""

from diffagent.knowledge.base import Entry, Knowledge, KnowledgeError, Parameter, known, read

__all__ = ["Entry", "Knowledge", "KnowledgeError", "Parameter", "known", "read"]
