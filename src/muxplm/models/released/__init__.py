"""The dialect of the authors' published checkpoints (docs/dialects.md), and their conversion."""
